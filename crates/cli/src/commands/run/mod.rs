//! `soulbox run`, `up`, `ps`, `logs`, `exec`, `down` and `test`: a project in a sandbox.
//!
//! What is up is known to the server alone: its sandbox bears the project's name and directory as labels,
//! so that nothing on this machine can say otherwise.

pub(super) mod install;
mod load;
pub(super) mod measure;
mod ready;
mod start;
mod up;

use std::time::Duration;

use soulbox_model::SandboxId;
use tokio::io::AsyncWriteExt as _;

pub(super) use self::up::{down, exec, logs, ps, up};
use self::{load::Loaded, start::Started};
use super::sandbox::session::{self, Input};
use crate::{
    args::run::{Run, Test},
    client::{
        Remote, Server, locate,
        process::{Config, Data, End},
        remote::Launch,
    },
    failure::{Failure, Result},
    output::{Output, gone, plain},
    progress::Step,
    settings::Settings,
};

/// How long the end of a project's first command is awaited after its readiness failed.
const LAST_WORDS: Duration = Duration::from_millis(300);

pub(super) async fn run(settings: &Settings, args: Run) -> Result<()> {
    let output = &settings.output;
    let loaded = Loaded::open(&args.which, &args.overrides.set)?;
    let server = locate(settings)?;
    let started = Started::make(&server, output, &loaded, &args.overrides).await?;
    let done = follow(&server, output, &loaded, &started, &args).await;
    // Nobody else knows of it; should this fail, its timeout ends it.
    let _ = server.kill(&started.id).await;
    done
}

/// Runs the start command in the foreground, and says when it is ready.
async fn follow(
    server: &Server,
    output: &Output,
    loaded: &Loaded,
    started: &Started,
    args: &Run,
) -> Result<()> {
    let commands = &loaded.project.commands;
    let launch = command(started.app, commands.start.iter().chain(&args.args).cloned());
    let program = stream(&started.remote, launch, output.json);
    let announce = async {
        if let Some(ready) = &commands.ready {
            ready::wait(&started.remote, ready, started.app, args.overrides.wait).await?;
        }
        started.announce(server, output, &loaded.project)
    };
    tokio::pin!(program);
    let end = tokio::select! {
        biased;
        ended = &mut program => {
            let end = ended?;
            if commands.ready.is_some() && end.code() != 0 {
                output.note(format!(
                    "commands.start ended with {} before the project was ready",
                    end.code()
                ));
            }
            end
        }
        announced = announce => {
            if let Err(failure) = announced {
                // It may be that the program just ended, which says more.
                let last = tokio::time::timeout(LAST_WORDS, &mut program).await;
                return match last {
                    Ok(Ok(end)) if end.code() != 0 => Err(Failure::Exit(end.code())),
                    _ => Err(failure),
                };
            }
            program.await?
        }
    };
    exit(&end)
}

pub(super) async fn test(settings: &Settings, args: Test) -> Result<()> {
    let output = &settings.output;
    let loaded = Loaded::open(&args.which, &args.overrides.set)?;
    let Some(test) = loaded.project.commands.test.clone() else {
        return Err(Failure::usage("the project has no commands.test"));
    };
    let server = locate(settings)?;
    let started = Started::make(&server, output, &loaded, &args.overrides).await?;
    let ended = stream(&started.remote, command(started.app, test), output.json).await;
    let mut kept = Ok(());
    for file in &args.keep {
        if kept.is_ok() {
            kept = keep(&started, output, &loaded, file).await;
        }
    }
    let _ = server.kill(&started.id).await;
    exit(&ended?)?;
    kept
}

/// Brings one file out, into the project's directory and nowhere else.
async fn keep(started: &Started, output: &Output, loaded: &Loaded, file: &str) -> Result<()> {
    let name = std::path::Path::new(file).file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("--keep {file}: not a file's name")))?;
    let target = loaded.dir.join(name);
    let context = || Failure::io(target.display().to_string());
    // A new file in the place of whatever was there: a link would lead elsewhere.
    let fresh = tempfile_beside(&target);
    let mut into = tokio::fs::File::create_new(&fresh).await.map_err(context())?;
    let step = Step::bytes(output, None, format!("fetching {}", plain(file)));
    let path = format!("{}/{file}", started.app);
    let fetched = started.remote.download(&path, None, &mut into, &step).await;
    drop(into);
    match fetched {
        Ok(()) => tokio::fs::rename(&fresh, &target).await.map_err(context()),
        Err(failure) => {
            let _ = tokio::fs::remove_file(&fresh).await;
            Err(failure)
        }
    }
}

fn tempfile_beside(target: &std::path::Path) -> std::path::PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", uuid::Uuid::new_v4().simple()));
    target.with_file_name(name)
}

/// A command in the project's directory.
fn command(app: &str, words: impl IntoIterator<Item = String>) -> Launch {
    let mut words = words.into_iter();
    let process = Config {
        cmd: words.next().unwrap_or_default(),
        args: words.collect(),
        cwd: Some(app.to_owned()),
        ..Config::default()
    };
    Launch { process, ..Launch::default() }
}

/// Runs a command to its end and shows what it says; all of it on standard error where
/// standard output is for JSON.
async fn stream(remote: &Remote, launch: Launch, json: bool) -> Result<End> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    session::run(
        remote,
        launch,
        Input::None,
        |_| None,
        async |data| {
            let written = match data {
                Data::Stdout(bytes) | Data::Pty(bytes) if !json => {
                    out.write_all(&bytes.0).await.and(out.flush().await)
                }
                Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes) => {
                    err.write_all(&bytes.0).await.and(err.flush().await)
                }
            };
            written.map_err(gone)
        },
    )
    .await
}

fn exit(end: &End) -> Result<()> {
    match end.code() {
        0 => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}

fn id_of(text: &str) -> Result<SandboxId> {
    text.parse().map_err(|_| Failure::Protocol("a sandbox without an id".into()))
}
