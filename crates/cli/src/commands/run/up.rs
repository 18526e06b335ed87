//! Projects that run without anybody watching.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::json;
use soulbox_model::SandboxId;
use soulbox_wire::rest::ListedSandbox;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{
    command, exit, hunger, id_of,
    load::{DIRECTORY, Loaded, NAME, absolute},
    start::{Started, app_in, tell_of},
};
use crate::{
    args::{
        exec::Exec,
        run::{Down, Logs, Ps, Up, Which},
    },
    client::{
        Server, locate,
        process::{Data, Event},
        remote::{Launch, Running},
    },
    commands::{
        project::cores,
        sandbox::{
            self, ended, lifecycle,
            session::{self, Input, Interrupts},
        },
    },
    failure::{Failure, Result},
    output::{Output, plain},
    progress::Step,
    settings::Settings,
};

/// Where the files below lie, inside: beside the project's directory.
const BESIDE: &str = "..";
/// With which code the start command ended, when it has.
const CODE: &str = ".soulbox.code";
/// Keeps what the command says, and says behind that how it ended.
const SUPERVISOR: &str = r#"
log=$1/.soulbox.log pid=$1/.soulbox.pid code=$1/.soulbox.code
shift
exec >>"$log" 2>&1 </dev/null
echo $$ >"$pid"
"$@"
ended=$?
echo $ended >"$code"
echo "soulbox: the command ended with $ended"
exit $ended
"#;
/// What was said.
const TAIL: &str = r#"
[ -e "$1/.soulbox.log" ] || exit 66
exec cat "$1/.soulbox.log"
"#;
/// The same, and what is said until the command ends: some `tail`s cannot see that.
const FOLLOW: &str = r#"
[ -e "$1/.soulbox.log" ] || exit 66
if pid=$(cat "$1/.soulbox.pid" 2>/dev/null) && tail --pid="$pid" --version >/dev/null 2>&1; then
  exec tail -n +1 -f --pid="$pid" "$1/.soulbox.log"
fi
exec tail -n +1 -F "$1/.soulbox.log"
"#;
/// What an error keeps of what a project said.
const MAX_SAID: usize = 2048;
/// How many sandboxes are asked at a time.
const AT_ONCE: usize = 8;
/// Between two looks whether another `up` of the same directory has ended.
const TURN: Duration = Duration::from_millis(50);
/// There is no log: somebody else shows what it says.
const NO_LOG: u8 = 66;

pub(in crate::commands) async fn up(settings: &Settings, args: Up) -> Result<()> {
    if !args.detach {
        return super::run(settings, args.run).await;
    }
    let output = &settings.output;
    let run = args.run;
    let loaded = Loaded::open(&run.which, &run.overrides.set, cores(settings))?;
    let server = locate(settings)?;
    let interrupts = Interrupts::new()?;
    let _turn = interrupts.or(turn(output, &loaded.dir)).await?;
    if let Some(there) = find(&server, &run.which).await?.into_iter().next() {
        if let Some(code) = code_of(&server, &there).await.filter(|code| *code != 0) {
            return Err(Failure::Environment {
                message: format!(
                    "it is up already, in {}, but commands.start has ended with {code}",
                    plain(&there.sandbox_id)
                ),
                hint:
                    "`soulbox logs` has what it said; after `soulbox down` it can be started again"
                        .into(),
            });
        }
        output.note(format!("it is up already, in {}", plain(&there.sandbox_id)));
        return tell_of(&server, output, &there);
    }
    let started = Started::make(&server, output, &loaded, &run.overrides, &interrupts).await?;
    let begun = interrupts.or(begin(output, &loaded, &started, &run)).await;
    match ended::told(&server, &started.id, begun).await {
        Ok(after) => started.announce(&server, output, &loaded.project, after),
        Err(failure) => {
            hunger::tell(&server, output, &started.id, loaded.project.resources.memory_bytes).await;
            let failure = with_log(&server, output, &started, failure).await;
            lifecycle::end(&server, output, &started.id).await;
            Err(failure)
        }
    }
}

/// Waits until no other `up` of a directory is under way: each looks first whether the project is up, which it is only
/// when the other one has ended. The lock goes with its process; where the file system has none, nobody waits.
async fn turn(output: &Output, dir: &Path) -> Result<File> {
    let directory = File::open(dir).map_err(Failure::io(dir.display().to_string()))?;
    let mut waits = false;
    while let Err(TryLockError::WouldBlock) = directory.try_lock() {
        if !waits {
            output.note("waiting for another `soulbox up` of this project");
            waits = true;
        }
        tokio::time::sleep(TURN).await;
    }
    Ok(directory)
}

/// Shows what the start command of a project that did not get ready has said; where standard error is for JSON, the
/// error itself says it.
async fn with_log(
    server: &Server,
    output: &Output,
    started: &Started,
    failure: Failure,
) -> Failure {
    if matches!(failure, Failure::Exit(_)) {
        return failure;
    }
    let mut said = Vec::new();
    let show = async |bytes: &[u8]| {
        said.extend_from_slice(bytes);
        Ok(())
    };
    // What has ended does not answer.
    show_log(server, &started.id, started.app, false, show).await.ok();
    if !output.json {
        // Standard output is for what was asked for.
        let _ = tokio::io::stderr().write_all(&said).await;
        return failure;
    }
    let last = String::from_utf8_lossy(&said[said.len().saturating_sub(MAX_SAID)..]).into_owned();
    match failure {
        Failure::Environment { message, .. } if !last.is_empty() => Failure::Environment {
            message: format!("{message}; what it said ends with: {}", last.trim_end()),
            hint: "correct what it says, or what starts it".into(),
        },
        failure => failure,
    }
}

/// Starts the project, and says how long that took from the first request on.
async fn begin(
    output: &Output,
    loaded: &Loaded,
    started: &Started,
    run: &crate::args::run::Run,
) -> Result<Duration> {
    let commands = &loaded.project.commands;
    let words = script(SUPERVISOR).chain(commands.start.iter().cloned()).chain(run.args.clone());
    let mut running = started.remote.start(&command(started.app, words)).await?;
    tokio::select! {
        biased;
        after = started.ready(commands, run.overrides.wait) => after,
        // It goes on when nobody listens any more; what it says goes elsewhere.
        code = code_at_end(&mut running) => match (code?, &commands.ready) {
            (0, None) => {
                output.note("commands.start has ended, with 0");
                Ok(started.age())
            }
            (code, _) => Err(Failure::Environment {
                message: format!("commands.start ended with {code} before the project was ready"),
                hint: "what it said stands above".into(),
            }),
        }
    }
}

/// The words before those that a script takes besides its directory.
fn script(text: &str) -> impl Iterator<Item = String> {
    ["sh", "-c", text, "soulbox", BESIDE].map(str::to_owned).into_iter()
}

/// With which code the start command of a project that is up has ended, if it has.
async fn code_of(server: &Server, sandbox: &ListedSandbox) -> Option<u8> {
    let remote = server.remote(&id_of(&sandbox.sandbox_id).ok()?).await.ok()?;
    let beside = Path::new(app_in(sandbox)).parent()?.join(CODE);
    let mut code = Vec::new();
    let step = Step::bytes(&Output::new(true), None, "");
    remote.download(beside.to_str()?, None, &mut code, &step).await.ok()?;
    String::from_utf8(code).ok()?.trim().parse().ok()
}

/// With which code a command ends.
async fn code_at_end(running: &mut Running<'_>) -> Result<u8> {
    let mut code = 0;
    while let Some(event) = running.next().await? {
        if let Event::End(end) = event {
            code = end.code();
        }
    }
    Ok(code)
}

#[derive(Serialize)]
struct Row<'a> {
    project: &'a str,
    directory: &'a str,
    sandbox_id: &'a str,
    started_at: chrono::DateTime<chrono::Utc>,
    end_at: chrono::DateTime<chrono::Utc>,
    /// With which code `commands.start` ended, where it has and nobody waited for it.
    exit_code: Option<u8>,
}

pub(in crate::commands) async fn ps(settings: &Settings, args: &Ps) -> Result<()> {
    let server = locate(settings)?;
    let found = if args.all {
        let all = server.list(&[], "running").await?;
        all.into_iter().filter(|sandbox| sandbox.metadata.contains_key(NAME)).collect()
    } else {
        find(&server, &args.which).await?
    };
    let codes: Vec<Option<u8>> = stream::iter(&found)
        .map(|sandbox| code_of(&server, sandbox))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let rows: Vec<Row<'_>> = found
        .iter()
        .zip(codes)
        .map(|(sandbox, exit_code)| Row {
            project: label(sandbox, NAME),
            directory: label(sandbox, DIRECTORY),
            sandbox_id: &sandbox.sandbox_id,
            started_at: sandbox.started_at,
            end_at: sandbox.end_at,
            exit_code,
        })
        .collect();
    let output = &settings.output;
    if output.json {
        return output.value(&rows);
    }
    let rows = rows.iter().map(|row| {
        let time = |at: chrono::DateTime<chrono::Utc>| at.format("%H:%M:%SZ").to_string();
        vec![
            plain(row.project),
            plain(row.sandbox_id),
            row.exit_code.map_or("running".to_owned(), |code| format!("exited {code}")),
            time(row.started_at),
            time(row.end_at),
            plain(row.directory),
        ]
    });
    output.table(&["PROJECT", "SANDBOX", "STATE", "STARTED", "ENDS", "DIRECTORY"], rows.collect())
}

pub(in crate::commands) async fn logs(settings: &Settings, args: &Logs) -> Result<()> {
    let server = locate(settings)?;
    let sandbox = only(&server, &args.which).await?;
    let (id, app, output) = (id_of(&sandbox.sandbox_id)?, app_in(&sandbox), &settings.output);
    let shown = if output.json {
        let mut lines = Lines { output, follow: args.follow, part: Vec::new(), all: Vec::new() };
        let shown = show_log(&server, &id, app, args.follow, async |bytes| lines.add(bytes)).await;
        lines.finish()?;
        shown
    } else {
        show_log(&server, &id, app, args.follow, to(&mut tokio::io::stdout())).await
    };
    match ended::told(&server, &id, shown).await {
        // What is followed until it ends, has.
        Err(Failure::NotFound { message, .. }) if args.follow => {
            output.note(message);
            Ok(())
        }
        Err(Failure::Exit(NO_LOG)) => Err(Failure::NotFound {
            message: format!("{} keeps no log", sandbox.sandbox_id),
            hint: Some(
                "`soulbox run` itself shows what its project says; `soulbox up -d` keeps it".into(),
            ),
        }),
        shown => shown,
    }
}

/// What a project says, as JSON: each line an object, at once if it is followed.
#[derive(Debug)]
struct Lines<'a> {
    output: &'a Output,
    follow: bool,
    part: Vec<u8>,
    all: Vec<serde_json::Value>,
}

impl Lines<'_> {
    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.part.extend_from_slice(bytes);
        while let Some(at) = self.part.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.part.drain(..=at).collect();
            self.line(&line[..at])?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        let line = json!({ "line": String::from_utf8_lossy(line) });
        if self.follow {
            return self.output.record(&line);
        }
        self.all.push(line);
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let part = std::mem::take(&mut self.part);
        if !part.is_empty() {
            self.line(&part)?;
        }
        if self.follow { Ok(()) } else { self.output.value(&self.all) }
    }
}

pub(in crate::commands) async fn down(settings: &Settings, args: &Down) -> Result<()> {
    let server = locate(settings)?;
    let found = find(&server, &args.which).await?;
    for sandbox in &found {
        server.kill(&id_of(&sandbox.sandbox_id)?).await?;
    }
    let ended: Vec<&str> = found.iter().map(|sandbox| sandbox.sandbox_id.as_str()).collect();
    let output = &settings.output;
    if output.json {
        return output.value(&ended);
    }
    say_ended(output, ended.len());
    Ok(())
}

fn say_ended(output: &Output, count: usize) {
    match count {
        0 => output.note("nothing was up"),
        1 => output.note("ended"),
        more => output.note(format!("ended {more} sandboxes")),
    }
}

pub(in crate::commands) async fn exec(settings: &Settings, args: Exec) -> Result<()> {
    if args.args.is_empty() {
        return Err(Failure::usage(
            "no command: `soulbox exec -- <command>`, or --runtime and code",
        ));
    }
    let server = locate(settings)?;
    let which = Which { project: args.project };
    let sandbox = only(&server, &which).await?;
    let id = id_of(&sandbox.sandbox_id)?;
    let remote = server.remote(&id).await?;
    let launch = command(app_in(&sandbox), args.args);
    let mut process = launch.process;
    process.envs.extend(args.env);
    let launch = Launch { process, timeout: args.timeout, ..Launch::default() };
    let done = sandbox::exec::launched(&remote, &settings.output, launch, args.tty).await;
    ended::told(&server, &id, done).await
}

/// What the start command has said, and what it says from now on.
async fn show_log(
    server: &Server,
    id: &SandboxId,
    app: &str,
    follow: bool,
    mut show: impl AsyncFnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let remote = server.remote(id).await?;
    let launch = command(app, script(if follow { FOLLOW } else { TAIL }));
    let end = session::run(
        &remote,
        launch,
        Input::None,
        |_| None,
        async |data| {
            let (Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)) = data;
            show(&bytes.0).await
        },
    )
    .await?;
    exit(&end)
}

fn to(out: &mut (impl AsyncWrite + Unpin)) -> impl AsyncFnMut(&[u8]) -> Result<()> {
    async |bytes| out.write_all(bytes).await.and(out.flush().await).map_err(crate::output::gone)
}

async fn find(server: &Server, which: &Which) -> Result<Vec<ListedSandbox>> {
    let dir = absolute(&which.project)?;
    let label = (DIRECTORY.to_owned(), dir.display().to_string());
    server.list(&[label], "running").await
}

async fn only(server: &Server, which: &Which) -> Result<ListedSandbox> {
    find(server, which).await?.into_iter().next().ok_or_else(|| Failure::NotFound {
        message: format!(
            "nothing of {} is up",
            absolute(&which.project).unwrap_or_else(|_| which.project.clone()).display()
        ),
        hint: Some("`soulbox up -d` starts it".into()),
    })
}

fn label<'a>(sandbox: &'a ListedSandbox, name: &str) -> &'a str {
    sandbox.metadata.get(name).map_or("", String::as_str)
}
