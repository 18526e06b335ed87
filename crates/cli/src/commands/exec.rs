//! `soulbox exec`: code in a runtime, in a sandbox that lives as long as it runs.

mod artifacts;
mod outcome;
mod page;

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use soulbox_model::SandboxId;
use soulbox_runtime::{
    adapters::{self, Adapter, DIRECTORY, Grant, Invocation, Limits, Options, Results},
    dependencies,
};
use soulbox_wire::rest::{Network, NewSandboxV2, SandboxShape};
use tokio::io::AsyncWriteExt as _;

use self::{
    artifacts::Collected,
    outcome::{Outcome, Status, finish},
};
use super::{
    run::install,
    sandbox::{
        ended, lifecycle,
        session::{self, Input, Interrupts},
    },
};
use crate::{
    args::{artifact::Pattern, exec::Exec},
    client::{
        Remote, Server, locate,
        process::{Config, Data},
        remote::Launch,
    },
    failure::{Failure, Result},
    output::{Output, gone, plain},
};

/// The largest program.
const MAX_CODE: u64 = 16 << 20;
/// What `--json` keeps of each stream.
const MAX_KEPT: usize = 16 << 20;
/// What is looked at to say what a failure means.
const MAX_READ: usize = 64 << 10;
/// How much longer than the program its sandbox may live.
const GRACE: Duration = Duration::from_secs(60);
/// How long a sandbox lives whose program has no time limit: nobody wants it for ever should this process be lost.
const UNLIMITED: Duration = Duration::from_secs(24 * 60 * 60);
/// What ended a program that a signal of the kernel did.
const KILLED: u8 = 137;
const TIMED_OUT: u8 = 124;
/// How long packages may take to install.
const INSTALL_SECONDS: u64 = 600;

pub(super) async fn run(settings: &crate::settings::Settings, args: Exec) -> Result<()> {
    let output = &settings.output;
    let Some(runtime) = &args.runtime else {
        if let Some(word) = &args.file {
            let command: Vec<_> =
                std::iter::once(word).chain(&args.args).map(|word| plain(word)).collect();
            return Err(Failure::Usage {
                message: format!("no runtime for the code in `{}`", plain(word)),
                hint: Some(format!(
                    "name one with --runtime; a command in the project that is up is `soulbox exec -- {}`",
                    command.join(" ")
                )),
            });
        }
        let plain = Options { args: args.args.clone(), ..Options::default() };
        if args.options() != plain {
            return Err(Failure::usage("an option of a runtime: name one with --runtime"));
        }
        return super::run::exec(settings, args).await;
    };
    if args.file.is_none() && args.eval.is_none() {
        return Err(Failure::usage(
            "no code: name a file, - for standard input, or give it with -e",
        ));
    }
    let adapter =
        adapters::find(runtime).ok_or_else(|| Failure::usage(format!("no runtime `{runtime}`")))?;
    let options = args.options();
    let bad = |error: adapters::BadOption| Failure::usage(error.to_string());
    options.check(adapter).map_err(bad)?;
    let (code, name) = code(&args, adapter)?;
    let entry = format!("{DIRECTORY}/{name}");
    let mut invocation = adapter.invocation(&options, &entry).map_err(bad)?;
    invocation.files.push((entry, code));
    invocation.env.extend(args.env.iter().cloned());

    args.artifacts_to.as_deref().map_or(Ok(()), artifacts::prepare)?;
    args.browser.screenshot.as_deref().map_or(Ok(()), page::prepare)?;

    let server = locate(settings)?;
    let interrupts = Interrupts::new()?;
    let results = std::mem::take(&mut invocation.results);
    let cwd = options.directory();
    let new = NewSandboxV2 {
        template_id: interrupts.or(template(&server, output, adapter, &args.with)).await?,
        ..sandbox(&args, adapter, &options)?
    };
    let made = lifecycle::make(&server, output, &new, false, &interrupts).await?;
    let id: SandboxId =
        made.sandbox_id.parse().map_err(|_| Failure::Protocol("a sandbox without an id".into()))?;
    let remote = server.remote_with(&id, made.envd_access_token);
    let takes_input = args.file.as_deref() != Some("-");
    let files = std::mem::take(&mut invocation.files);
    let write = async {
        for (path, content) in files {
            remote.write(&path, None, content.into()).await?;
        }
        Ok(())
    };
    let outcome = async {
        interrupts.or(write).await?;
        let mut outcome = execute(
            &server,
            &remote,
            &id,
            (invocation, &cwd),
            args.time_limit(),
            takes_input,
            output,
        )
        .await?;
        if outcome.alive {
            let wanted = (&*args.artifacts, args.artifacts_to.as_deref());
            let fetched = fetch(&mut outcome, &remote, (&cwd, wanted), (&results, &args), output);
            match interrupts.or(fetched).await {
                Err(interrupted @ Failure::Exit(_)) => return Err(interrupted),
                fetched => outcome.incomplete = fetched.err(),
            }
        }
        Ok::<_, Failure>(outcome)
    };
    let outcome = outcome.await;
    // Whatever came of it.
    let outcome = ended::told(&server, &id, outcome).await;
    lifecycle::end(&server, output, &id).await;
    finish(outcome?, adapter, output)
}

/// Brings out what the program left.
async fn fetch(
    outcome: &mut Outcome,
    remote: &Remote,
    (cwd, wanted): (&str, (&[Pattern], Option<&Path>)),
    (results, args): (&Results, &Exec),
    output: &Output,
) -> Result<()> {
    outcome.collected = artifacts::collect(remote, cwd, wanted, output).await?;
    let screenshot = args.browser.screenshot.as_deref();
    outcome.page = page::results(remote, results, screenshot, output).await?;
    Ok(())
}

/// The template of a runtime, with packages on top of it.
async fn template(
    server: &Server,
    output: &Output,
    adapter: &dyn Adapter,
    with: &[String],
) -> Result<String> {
    let parent = adapter.template();
    if with.is_empty() {
        return Ok(parent.to_owned());
    }
    let layer = dependencies::of_runtime(adapter.name(), with).map_err(install::problem)?;
    let layer = layer.ok_or_else(|| {
        Failure::usage(format!("--with: {} takes no packages: import them by URL", adapter.name()))
    })?;
    let how = install::How { arguments: &BTreeMap::new(), seconds: INSTALL_SECONDS };
    install::make(server, output, parent, &layer, &how).await
}

/// What the code's sandbox must be, whatever its template.
fn sandbox(args: &Exec, adapter: &dyn Adapter, options: &Options) -> Result<NewSandboxV2> {
    let (internet, hosts) = match adapter.reach(options) {
        None => (None, None),
        Some(Grant::None) => (Some(false), None),
        Some(Grant::All) => (Some(true), None),
        Some(Grant::Only(hosts)) => (Some(false), Some(hosts)),
    };
    let limits = adapter.limits(options);
    let Limits { cpu_millis, memory_bytes } = limits;
    let shape = SandboxShape { cpu_millis, memory_bytes, ..SandboxShape::default() };
    let life = args.time_limit().map_or(UNLIMITED, |limit| limit.saturating_add(GRACE));
    Ok(NewSandboxV2 {
        timeout: Some(lifecycle::seconds(life)?),
        allow_internet_access: internet,
        network: hosts.map(|hosts| Network { allow_out: Some(hosts), ..Network::default() }),
        soulbox: (limits != Limits::default()).then_some(shape),
        ..NewSandboxV2::default()
    })
}

#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn push(&mut self, bytes: &[u8], most: usize) {
        let room = most.saturating_sub(self.bytes.len());
        self.truncated |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

async fn execute(
    server: &Server,
    remote: &Remote,
    id: &SandboxId,
    (invocation, cwd): (Invocation, &str),
    timeout: Option<Duration>,
    takes_input: bool,
    output: &Output,
) -> Result<Outcome> {
    let mut words = invocation.argv.into_iter();
    let process = Config {
        cmd: words.next().unwrap_or_default(),
        args: words.collect(),
        envs: invocation.env,
        cwd: Some(cwd.to_owned()),
    };
    let launch = Launch { process, timeout, ..Launch::default() };
    let input = match takes_input {
        true => Input::Chunks(session::standard_input()),
        false => Input::None,
    };
    let (mut kept_out, mut kept_err) = (Kept::default(), Kept::default());
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let most = if output.json { MAX_KEPT } else { MAX_READ };
    let began = Instant::now();
    let ended = session::run(
        remote,
        launch,
        input,
        |_| None,
        async |data| match data {
            Data::Stdout(bytes) | Data::Pty(bytes) => {
                kept_out.push(&bytes.0, most);
                let shown = !output.json;
                if shown {
                    out.write_all(&bytes.0).await.and(out.flush().await).map_err(gone)
                } else {
                    Ok(())
                }
            }
            Data::Stderr(bytes) => {
                kept_err.push(&bytes.0, most);
                let shown = !output.json;
                if shown {
                    err.write_all(&bytes.0).await.and(err.flush().await).map_err(gone)
                } else {
                    Ok(())
                }
            }
        },
    )
    .await;
    let duration = began.elapsed();
    let usage = server.usage(id).await.ok();
    let starved = usage.is_some_and(|usage| usage.oom_kills > 0);
    let (status, exit_code) = match ended {
        Ok(end) if starved && end.code() != 0 => (Status::Oom, end.code()),
        Ok(end) if end.exited => (Status::Exited, end.code()),
        Ok(end) => (Status::Killed, end.code()),
        Err(Failure::CommandTimeout(_)) => (Status::Timeout, TIMED_OUT),
        // The whole sandbox went with it.
        Err(failure) if usage.is_none() && died_of_hunger(server, id).await => {
            tracing::debug!(%failure, "out of memory");
            (Status::Oom, KILLED)
        }
        Err(failure) => return Err(failure),
    };
    Ok(Outcome {
        runtime: "",
        sandbox_id: id.to_string(),
        exit_code,
        status,
        stdout: kept_out.text(),
        stderr: kept_err.text(),
        stdout_truncated: kept_out.truncated,
        stderr_truncated: kept_err.truncated,
        duration_ms: duration.as_secs_f64() * 1000.0,
        cpu_ms: usage.map(|usage| usage.cpu_micros as f64 / 1000.0),
        peak_memory_bytes: usage.and_then(|usage| usage.memory_peak_bytes),
        diagnosis: None,
        collected: Collected::default(),
        page: page::Page::default(),
        incomplete: None,
        alive: usage.is_some(),
    })
}

/// What the log of an ended sandbox says of its end.
async fn died_of_hunger(server: &Server, id: &SandboxId) -> bool {
    let logs = server.logs(id, None, None, Some("OOM")).await;
    logs.is_ok_and(|logs| !logs.logs.is_empty())
}

/// The code, and what its file is called inside.
fn code(args: &Exec, adapter: &dyn Adapter) -> Result<(String, String)> {
    let anonymous = format!("main.{}", adapter.extension());
    if let Some(code) = &args.eval {
        return Ok((code.clone(), anonymous));
    }
    let Some(path) = args.file.as_deref().filter(|path| *path != "-") else {
        return Ok((read(std::io::stdin(), "standard input")?, anonymous));
    };
    let file = std::fs::File::open(path).map_err(Failure::io(path))?;
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    let plain = |c: char| c.is_ascii_alphanumeric();
    let name = match extension.filter(|text| !text.is_empty() && text.chars().all(plain)) {
        Some(extension) => format!("main.{extension}"),
        None => anonymous,
    };
    Ok((read(file, path)?, name))
}

fn read(from: impl std::io::Read, name: &str) -> Result<String> {
    let mut code = String::new();
    let read = from.take(MAX_CODE + 1).read_to_string(&mut code).map_err(Failure::io(name))?;
    if read as u64 > MAX_CODE {
        return Err(Failure::usage(format!("{name}: more than {} MiB", MAX_CODE >> 20)));
    }
    Ok(code)
}
