//! Python of the `base` template.

use soulbox_image::{BASE, derived::Plan};

use super::{Adapter, BadOption, Diagnosis, Invocation, Options, Switch};

#[derive(Debug)]
pub(super) struct Python;

impl Adapter for Python {
    fn name(&self) -> &'static str {
        "python"
    }

    fn about(&self) -> &'static str {
        "CPython of the base template"
    }

    fn template(&self) -> &'static str {
        BASE
    }

    fn plan(&self) -> Option<Plan> {
        None
    }

    fn extension(&self) -> &'static str {
        "py"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Cwd]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        let mut argv = vec!["python3".to_owned(), entry.to_owned()];
        argv.extend(options.args.iter().cloned());
        // What a program says is seen when it says it.
        let env = [("PYTHONUNBUFFERED".to_owned(), "1".to_owned())];
        Ok(Invocation { argv, env: env.into(), ..Invocation::default() })
    }

    fn diagnose(&self, stderr: &str) -> Option<Diagnosis> {
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty())?;
        let message = last.strip_prefix("ModuleNotFoundError: ")?;
        Some(Diagnosis {
            kind: "module-not-found",
            message: message.chars().take(500).collect(),
            advice: "name its package with --with, as in `--with requests`".into(),
        })
    }
}
