//! `soulbox run`, `up`, `ps`, `logs`, `exec`, `down` and `test`: a project in a sandbox.
//!
//! What is up is known to the server alone: its sandbox bears the project's name and directory as labels,
//! so that nothing on this machine can say otherwise.

mod hunger;
pub(super) mod install;
mod load;
pub(super) mod measure;
mod ready;
mod start;
mod up;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use soulbox_model::SandboxId;
use tokio::io::AsyncWriteExt as _;

pub(super) use self::up::{down, exec, logs, ps, up};
use self::{load::Loaded, start::Started};
use super::{
    project::cores,
    sandbox::{
        ended, lifecycle,
        session::{self, Input, Interrupts},
    },
};
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
    let loaded = Loaded::open(&args.which, &args.overrides.set, cores(settings))?;
    let server = locate(settings)?;
    let interrupts = Interrupts::new()?;
    let started = Started::make(&server, output, &loaded, &args.overrides, &interrupts).await?;
    let done = follow(&server, output, &loaded, &started, &args).await;
    let done = ended::told(&server, &started.id, done).await;
    if done.is_err() {
        hunger::tell(&server, output, &started.id, loaded.project.resources.memory_bytes).await;
    }
    lifecycle::end(&server, output, &started.id).await;
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
        let after = started.ready(commands, args.overrides.wait).await?;
        started.announce(server, output, &loaded.project, after)
    };
    tokio::pin!(program);
    let end = tokio::select! {
        biased;
        ended = &mut program => {
            let end = ended?;
            if commands.ready.is_some() {
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
    let keeps = kept_as(&args.keep)?;
    let loaded = Loaded::open(&args.which, &args.overrides.set, cores(settings))?;
    let Some(test) = loaded.project.commands.test.clone() else {
        return Err(Failure::Usage {
            message: "the project has no commands.test".into(),
            hint: Some(
                "say how it is tested: `soulbox config set 'commands.test=[\"pytest\", \"-q\"]'`"
                    .into(),
            ),
        });
    };
    let server = locate(settings)?;
    let interrupts = Interrupts::new()?;
    let started = Started::make(&server, output, &loaded, &args.overrides, &interrupts).await?;
    let ended = stream(&started.remote, command(started.app, test), output.json).await;
    let (kept, lost) = match &ended {
        Ok(_) => keep_all(&started, output, &loaded, &keeps, &interrupts).await,
        Err(_) => (Vec::new(), Ok(())),
    };
    let ended = ended::told(&server, &started.id, ended).await;
    if !matches!(&ended, Ok(end) if end.code() == 0) {
        hunger::tell(&server, output, &started.id, loaded.project.resources.memory_bytes).await;
    }
    lifecycle::end(&server, output, &started.id).await;
    let end = ended?;
    if output.json {
        output.value(&json!({
            "project": loaded.project.project.name,
            "sandbox_id": started.id,
            "exit_code": end.code(),
            "kept": kept,
        }))?;
    }
    // Files that a test did not write are no wonder if it failed.
    exit(&end)?;
    lost
}

/// A file of `--keep`.
#[derive(Debug, Clone, Copy)]
struct Kept<'a> {
    /// As it was asked for: inside, below the project.
    file: &'a str,
    /// What it is called out here.
    name: &'a str,
}

/// What each of the files of `--keep` is called in the project's directory.
///
/// # Errors
/// For one that is no file, and for two that would be one.
fn kept_as(files: &[String]) -> Result<Vec<Kept<'_>>> {
    let mut all: Vec<Kept<'_>> = Vec::with_capacity(files.len());
    for file in files {
        let name = Path::new(file).file_name().and_then(|name| name.to_str());
        let name = name
            .filter(|name| file.ends_with(name))
            .ok_or_else(|| Failure::usage(format!("--keep {}: not a file's name", plain(file))))?;
        match all.iter().find(|kept| kept.name == name) {
            // The same one, asked for twice.
            Some(kept) if kept.file == file => {}
            Some(kept) => {
                return Err(Failure::Usage {
                    message: format!(
                        "--keep {} and --keep {} would both become {} in the project's directory",
                        plain(kept.file),
                        plain(file),
                        plain(name)
                    ),
                    hint: Some("let the test give them names that differ".into()),
                });
            }
            None => all.push(Kept { file, name }),
        }
    }
    Ok(all)
}

/// Brings out what there is, until a signal comes; says which that was, and why the first of the others was not.
async fn keep_all<'a>(
    started: &Started,
    output: &Output,
    loaded: &Loaded,
    files: &[Kept<'a>],
    interrupts: &Interrupts,
) -> (Vec<&'a str>, Result<()>) {
    let (mut kept, mut lost) = (Vec::new(), Ok(()));
    for file in files {
        match interrupts.or(keep(started, output, loaded, *file)).await {
            Ok(()) => kept.push(file.file),
            Err(failure @ Failure::Exit(_)) => return (kept, Err(failure)),
            Err(failure) => lost = lost.and(Err(failure)),
        }
    }
    (kept, lost)
}

/// Brings one file out, into the project's directory and nowhere else.
async fn keep(
    started: &Started,
    output: &Output,
    loaded: &Loaded,
    Kept { file, name }: Kept<'_>,
) -> Result<()> {
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
        Err(Failure::Answer { status: 404, .. }) => {
            let _ = tokio::fs::remove_file(&fresh).await;
            Err(Failure::NotFound {
                message: format!("--keep {}: the test wrote no such file", plain(file)),
                hint: Some(
                    "paths are relative to the project: let commands.test write it there".into(),
                ),
            })
        }
        Ok(()) => tokio::fs::rename(&fresh, &target).await.map_err(context()),
        Err(failure) => {
            let _ = tokio::fs::remove_file(&fresh).await;
            Err(failure)
        }
    }
}

fn tempfile_beside(target: &Path) -> PathBuf {
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
