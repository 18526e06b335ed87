//! Node.js of the `base` template.

use soulbox_image::{BASE, derived::Plan};

use super::{Adapter, BadOption, DIRECTORY, Diagnosis, Invocation, Options, Switch};

/// Types are stripped from the version on that can; an older one says what it does not understand.
const RUN: &str = r#"
file=$1
case $file in
  *.ts | *.mts | *.cts)
    version=$(node -p 'process.versions.node')
    major=${version%%.*} rest=${version#*.}
    minor=${rest%%.*}
    if [ "$major" -lt 22 ] || { [ "$major" -eq 22 ] && [ "$minor" -lt 6 ]; }; then
      echo "soulbox: Node.js $version runs no TypeScript: 22.6 and later do; use deno or bun" >&2
      exit 78
    fi
    exec node --experimental-strip-types --no-warnings "$@" ;;
esac
exec node "$@"
"#;

/// Code is a module, so that it can import and await at its top; this gives it what `node -e` has beside.
const REQUIRE: &str = "globalThis.require = require('node:module').createRequire(__filename)\n";

#[derive(Debug)]
pub(super) struct Node;

impl Adapter for Node {
    fn name(&self) -> &'static str {
        "node"
    }

    fn about(&self) -> &'static str {
        "Node.js of the base template; TypeScript where the version strips types"
    }

    fn template(&self) -> &'static str {
        BASE
    }

    fn plan(&self) -> Option<Plan> {
        None
    }

    fn extension(&self) -> &'static str {
        "mjs"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Cwd]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        let typed = [".ts", ".mts", ".cts"].iter().any(|end| entry.ends_with(end));
        let (mut argv, mut files) = (vec!["node".to_owned()], Vec::new());
        if typed {
            argv = ["sh", "-c", RUN, "node"].map(str::to_owned).into();
        } else if entry.ends_with(".mjs") {
            let file = format!("{DIRECTORY}/.soulbox-require.cjs");
            argv.extend(["--require".to_owned(), file.clone()]);
            files.push((file, REQUIRE.to_owned()));
        }
        argv.push(entry.to_owned());
        argv.extend(options.args.iter().cloned());
        Ok(Invocation { argv, files, ..Invocation::default() })
    }

    fn diagnose(&self, stderr: &str) -> Option<Diagnosis> {
        let message = stderr.lines().find_map(|line| line.strip_prefix("soulbox: "))?;
        Some(Diagnosis {
            kind: "language-not-supported",
            message: message.to_owned(),
            advice: "run it with --runtime deno or --runtime bun".to_owned(),
        })
    }
}
