//! Deno, and the rules of Deno Deploy on top of it.

use soulbox_image::derived::Plan;

use super::{
    Adapter, BadOption, Diagnosis, Grant, Invocation, Options, Permissions, Switch,
    packages::{DENO, input, plan},
};

const PROGRAM: &str = "/opt/deno/deno";
const TEMPLATE: &str = "deno";
const INSTALL: &str =
    "chmod 755 /opt/deno/deno; ln -sf /opt/deno/deno /usr/local/bin/deno; deno --version";

/// Deno with the permissions that it is given, and none by default.
#[derive(Debug)]
pub(super) struct Deno;

impl Adapter for Deno {
    fn name(&self) -> &'static str {
        TEMPLATE
    }

    fn about(&self) -> &'static str {
        "Deno: TypeScript as it is, nothing allowed unless it is granted"
    }

    fn plan(&self) -> Option<Plan> {
        Some(plan(TEMPLATE, vec![input(DENO, "/opt/deno")], INSTALL))
    }

    fn extension(&self) -> &'static str {
        "ts"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Cwd, Switch::Net, Switch::Permissions, Switch::Unstable]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        run(options, &options.permissions, entry)
    }

    fn diagnose(&self, stderr: &str) -> Option<Diagnosis> {
        diagnose(stderr)
    }
}

/// Deno as Deno Deploy runs it: network and environment, but no files and no programs.
#[derive(Debug)]
pub(super) struct Deploy;

impl Adapter for Deploy {
    fn name(&self) -> &'static str {
        "deno-deploy"
    }

    fn about(&self) -> &'static str {
        "Deno Deploy's rules: network and environment, no files, no programs"
    }

    fn template(&self) -> &'static str {
        TEMPLATE
    }

    fn plan(&self) -> Option<Plan> {
        Deno.plan()
    }

    fn extension(&self) -> &'static str {
        "ts"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Unstable]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        let permissions =
            Permissions { net: Grant::All, env: Grant::All, ..Permissions::default() };
        run(options, &permissions, entry)
    }

    fn diagnose(&self, stderr: &str) -> Option<Diagnosis> {
        diagnose(stderr)
    }
}

fn run(options: &Options, permissions: &Permissions, entry: &str) -> Result<Invocation, BadOption> {
    let mut argv = vec![PROGRAM.to_owned(), "run".to_owned()];
    // Nobody is there to be asked.
    argv.extend(["--quiet", "--no-prompt"].map(str::to_owned));
    argv.extend(permissions.flags());
    for feature in &options.unstable {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if feature.is_empty() || !feature.chars().all(plain) {
            return Err(BadOption(format!("`{feature}` is no name of an unstable feature")));
        }
        argv.push(format!("--unstable-{feature}"));
    }
    argv.push(entry.to_owned());
    argv.extend(options.args.iter().cloned());
    let env = [("DENO_NO_UPDATE_CHECK", "1"), ("NO_COLOR", "1")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(Invocation { argv, env: env.into(), ..Invocation::default() })
}

/// `NotCapable: Requires net access to "example.org:443", run again with the --allow-net flag`
fn diagnose(stderr: &str) -> Option<Diagnosis> {
    let line = stderr.lines().find(|line| line.contains("NotCapable"))?;
    let message: String = match line.split_once("NotCapable: ") {
        Some((_, message)) => message.chars().take(500).collect(),
        None => "a permission is missing".to_owned(),
    };
    let kind = message.strip_prefix("Requires ").and_then(|rest| rest.split(' ').next());
    let advice = match kind {
        Some(kind @ ("net" | "read" | "write" | "env" | "run")) => {
            format!("grant it with --allow-{kind}, or a list of what it may have")
        }
        _ => "grant it, if the program is to be trusted with it".to_owned(),
    };
    Some(Diagnosis { kind: "permission-denied", message, advice })
}
