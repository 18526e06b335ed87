//! Bun.

use std::collections::BTreeMap;

use soulbox_image::derived::Plan;

use super::{
    Adapter, BadOption, Invocation, Options, Switch,
    packages::{BUN, input, plan},
};

const PROGRAM: &str = "/opt/bun/bin/bun";
const INSTALL: &str = "chmod 755 /opt/bun/bin/bun; ln -sf /opt/bun/bin/bun /usr/local/bin/bun; \
                       ln -sf /opt/bun/bin/bun /usr/local/bin/bunx; bun --version";
/// Below it the engine's own needs do not fit.
const LEAST_HEAP: u64 = 16 << 20;

/// Switches of JavaScriptCore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Jsc {
    /// How much memory the engine believes that there is, in bytes: the size of its heap follows.
    pub heap_bytes: Option<u64>,
    /// Whether code is compiled; as the engine likes where nobody says.
    pub jit: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Bun;

impl Adapter for Bun {
    fn name(&self) -> &'static str {
        "bun"
    }

    fn about(&self) -> &'static str {
        "Bun: TypeScript and JSX as they are, on JavaScriptCore"
    }

    fn plan(&self) -> Option<Plan> {
        Some(plan(self.name(), vec![input(BUN, "/opt/bun")], INSTALL))
    }

    fn extension(&self) -> &'static str {
        "ts"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Cwd, Switch::Jsc, Switch::Small]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        let mut argv = vec![PROGRAM.to_owned()];
        if options.small {
            argv.push("--smol".to_owned());
        }
        argv.extend(["run".to_owned(), entry.to_owned()]);
        argv.extend(options.args.iter().cloned());
        let mut env = BTreeMap::new();
        if let Some(bytes) = options.jsc.heap_bytes {
            if bytes < LEAST_HEAP {
                let text = format!("a heap of {bytes} bytes: at least {LEAST_HEAP} are needed");
                return Err(BadOption(text));
            }
            env.insert("BUN_JSC_forceRAMSize".to_owned(), bytes.to_string());
        }
        if let Some(jit) = options.jsc.jit {
            env.insert("BUN_JSC_useJIT".to_owned(), u8::from(jit).to_string());
        }
        Ok(Invocation { argv, env, ..Invocation::default() })
    }
}
