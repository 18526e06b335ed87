//! The packages that runtimes come in, each version with the hash of what it is.
//!
//! A new version is a new hash here, and with it a new template.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use soulbox_image::{
    BASE,
    derived::{Input, LONGEST, Plan, Step},
    registry::Npm,
};

pub(super) const DENO: Npm = Npm {
    name: "@deno/linux-x64-glibc",
    version: "2.9.6",
    integrity: "sha512-3md4TKLCuzsLDmfOoC5KN7NAZaxSVkMgm64vg6foD00JBADCpYS2/5QqXfzgnP5ZQz3iLP9vBQJtEgc116OAoQ==",
};

/// For processors of any age: templates outlive machines.
pub(super) const BUN: Npm = Npm {
    name: "@oven/bun-linux-x64-baseline",
    version: "1.4.5",
    integrity: "sha512-s8yMwYcFnnrA178gji0gZbkE2WVDej/Ti1x770oPfihxyRxSMNhGhiAQNXV53aDeraZxksdvKV/RAdQBCd0qPA==",
};

pub(super) const WORKERD: Npm = Npm {
    name: "@cloudflare/workerd-linux-64",
    version: "1.20261117.1",
    integrity: "sha512-gZLA8X11m/luZwn+YA3+mDu61vdxNJzpksP/QZqjydKTQ+VUCulsK5gtn9Bqst1p3KJu2kafQpJ1nDQv4B23jA==",
};

/// `edge-runtime` and everything that it needs.
pub(super) const EDGE: [Npm; 13] = [
    Npm {
        name: "edge-runtime",
        version: "4.0.1",
        integrity: "sha512-knylcPEqTugSmZolBR7P0O+StzYHd2J7wSmI0zqETD+xhy2xSeTA03p0SZqMKRsAsHPZ1qIGb7/bL71LUh9hqQ==",
    },
    Npm {
        name: "@edge-runtime/ponyfill",
        version: "4.0.0",
        integrity: "sha512-JZdDyYUqweSbhMgSxxL8QuquNuanVw+gMK8RfFq1LHMQHxzXPVvAf9aw6M7MSuyhnCBtFhqtSTr682rf8U5eyA==",
    },
    Npm {
        name: "@edge-runtime/vm",
        version: "5.0.0",
        integrity: "sha512-NKBGBSIKUG584qrS1tyxVpX/AKJKQw5HgjYEnPLC0QsTw79JrGn+qUr8CXFb955Iy7GUdiiUv1rJ6JBGvaKb6w==",
    },
    Npm {
        name: "@edge-runtime/format",
        version: "4.0.0",
        integrity: "sha512-dON4E/O3u0TvksmgS3E+3kniWerMji54mRA/uviHlbn7CiP7eYZVu2sgk/lXMaIvXAu+Jx+bV8KhE3+oQO5N5Q==",
    },
    Npm {
        name: "@edge-runtime/primitives",
        version: "6.0.0",
        integrity: "sha512-FqoxaBT+prPBHBwE1WXS1ocnu/VLTQyZ6NMUBAdbP7N2hsFTTxMC/jMu2D/8GAlMQfxeuppcPuCUk/HO3fpIvA==",
    },
    Npm {
        name: "async-listen",
        version: "3.0.1",
        integrity: "sha512-cWMaNwUJnf37C/S5TfCkk/15MwbPRwVYALA2jtjkbHjCmAPiDXyNJy2q3p1KAZzDLHAWyarUWSujUoHR4pEgrA==",
    },
    Npm {
        name: "mri",
        version: "1.2.0",
        integrity: "sha512-tzzskb3bG8LvYGFF/mDTpq3jpI6Q9wc3LEmBaghu+DdCssd1FakN7Bc0hVNmEyGq1bq3RgfkCb3cmQLpNPOroA==",
    },
    Npm {
        name: "picocolors",
        version: "1.1.1",
        integrity: "sha512-xceH2snhtb5M9liqDsmEw56le376mTZkEX/jEb/RxNFyegNul7eNslCXP9FDj/Lcu0X8KEyMceP2ntpaHrDEVA==",
    },
    Npm {
        name: "pretty-ms",
        version: "7.0.1",
        integrity: "sha512-973driJZvxiGOQ5ONsFhOF/DtzPMOMtgC11kCpUrPGMTgqp2q/1gwzCquocrN33is0VZ5GFHXZYMM9l6h67v2Q==",
    },
    Npm {
        name: "parse-ms",
        version: "2.1.0",
        integrity: "sha512-kHt7kzLoS9VBZfUsiKjv43mr91ea+U05EyKkEtqp7vNbHxmaVuEqN7XxeEVnGrMtYOAxGrDElSi96K7EgO1zCA==",
    },
    Npm {
        name: "signal-exit",
        version: "4.0.2",
        integrity: "sha512-MY2/qGx4enyjprQnFaZsHib3Yadh3IXyV2C321GY0pjGfVBu4un0uDJkwgdxqO+Rdx8JMT8IfJIRwbYVz3Ob3Q==",
    },
    Npm {
        name: "time-span",
        version: "4.0.0",
        integrity: "sha512-MyqZCTGLDZ77u4k+jqg4UlrzPTPZ49NDlaekU6uuFaJLzPIN1woaRXCbGeqOfxwc3Y37ZROGAJ614Rdv7Olt+g==",
    },
    Npm {
        name: "convert-hrtime",
        version: "3.0.0",
        integrity: "sha512-7V+KqSvMiHp8yWDuwfww06XleMWVVB9b9tURBx+G7UTADuo5hYPuowKloz4OzOqbPezxgo+fdQ1522WzPG4OeA==",
    },
];

const STEP: Duration = Duration::from_secs(120);

/// A template on top of `base` with `inputs` unpacked, and a shell script that has to succeed.
pub(super) fn plan(name: &str, inputs: Vec<Input>, script: &str) -> Plan {
    let step = Step {
        argv: vec!["sh".into(), "-ec".into(), script.into()],
        user: "root".into(),
        env: BTreeMap::new(),
        cwd: "/".into(),
        timeout: STEP,
        retry: false,
    };
    Plan {
        name: Some(name.to_owned()),
        parent: BASE.to_owned(),
        team: None,
        inputs,
        steps: vec![step],
        env: BTreeMap::new(),
        path: Vec::new(),
        workdir: None,
        internet: false,
        within: LONGEST,
    }
}

/// `package` without the directory that npm puts around it.
pub(super) fn input(package: Npm, target: &str) -> Input {
    Input { target: target.to_owned(), strip: 1, source: Arc::new(package) }
}
