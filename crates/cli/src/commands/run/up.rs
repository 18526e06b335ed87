//! Projects that run without anybody watching.

use serde::Serialize;
use soulbox_model::SandboxId;
use soulbox_wire::rest::ListedSandbox;
use tokio::io::AsyncWriteExt as _;

use super::{
    command, exit, id_of,
    load::{DIRECTORY, Loaded, NAME, absolute},
    ready,
    start::{Started, app_in, tell_of},
    stream,
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
    commands::sandbox::session::{self, Input},
    failure::{Failure, Result},
    output::{Output, plain},
    settings::Settings,
};

/// What the start command says, inside, beside the project's directory.
const LOG: &str = "../.soulbox.log";
/// Says that the command ended, behind what it said.
const SUPERVISOR: &str = r#"
exec >>"$0" 2>&1 </dev/null
"$@"
code=$?
echo "soulbox: the command ended with $code"
exit $code
"#;

pub(in crate::commands) async fn up(settings: &Settings, args: Up) -> Result<()> {
    if !args.detach {
        return super::run(settings, args.run).await;
    }
    let output = &settings.output;
    let run = args.run;
    let loaded = Loaded::open(&run.which, &run.overrides.set)?;
    let server = locate(settings)?;
    if let Some(there) = find(&server, &run.which).await?.into_iter().next() {
        output.note(format!("it is up already, in {}", plain(&there.sandbox_id)));
        return tell_of(&server, output, &there);
    }
    let started = Started::make(&server, output, &loaded, &run.overrides).await?;
    match begin(&loaded, &started, &run).await {
        Ok(()) => started.announce(&server, output, &loaded.project),
        Err(failure) => {
            // Standard output is for what was asked for.
            show_log(&server, &started.id, started.app, false, &mut tokio::io::stderr()).await.ok();
            let _ = server.kill(&started.id).await;
            Err(failure)
        }
    }
}

async fn begin(loaded: &Loaded, started: &Started, run: &crate::args::run::Run) -> Result<()> {
    let commands = &loaded.project.commands;
    let words = ["sh", "-c", SUPERVISOR, LOG].map(str::to_owned);
    let words = words.into_iter().chain(commands.start.iter().cloned()).chain(run.args.clone());
    let mut running = started.remote.start(&command(started.app, words)).await?;
    let Some(ready) = &commands.ready else { return Ok(()) };
    tokio::select! {
        biased;
        ready = ready::wait(&started.remote, ready, started.app, run.overrides.wait) => ready,
        // It goes on when nobody listens any more; what it says goes elsewhere.
        code = ended(&mut running) => Err(Failure::Environment {
            message: format!("commands.start ended with {} before the project was ready", code?),
            hint: "what it said stands above".into(),
        }),
    }
}

/// With which code a command ends.
async fn ended(running: &mut Running<'_>) -> Result<u8> {
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
}

pub(in crate::commands) async fn ps(settings: &Settings, args: &Ps) -> Result<()> {
    let server = locate(settings)?;
    let found = if args.all {
        let all = server.list(&[], "running").await?;
        all.into_iter().filter(|sandbox| sandbox.metadata.contains_key(NAME)).collect()
    } else {
        find(&server, &args.which).await?
    };
    let rows: Vec<Row<'_>> = found
        .iter()
        .map(|sandbox| Row {
            project: label(sandbox, NAME),
            directory: label(sandbox, DIRECTORY),
            sandbox_id: &sandbox.sandbox_id,
            started_at: sandbox.started_at,
            end_at: sandbox.end_at,
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
            time(row.started_at),
            time(row.end_at),
            plain(row.directory),
        ]
    });
    output.table(&["PROJECT", "SANDBOX", "STARTED", "ENDS", "DIRECTORY"], rows.collect())
}

pub(in crate::commands) async fn logs(settings: &Settings, args: &Logs) -> Result<()> {
    let server = locate(settings)?;
    let sandbox = only(&server, &args.which).await?;
    show_log(
        &server,
        &id_of(&sandbox.sandbox_id)?,
        app_in(&sandbox),
        args.follow,
        &mut tokio::io::stdout(),
    )
    .await
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
    let remote = server.remote(&id_of(&sandbox.sandbox_id)?).await?;
    let launch = command(app_in(&sandbox), args.args);
    let mut process = launch.process;
    process.envs.extend(args.env);
    let launch = Launch { process, ..Launch::default() };
    exit(&stream(&remote, launch, settings.output.json).await?)
}

/// What the start command has said, and what it says from now on.
async fn show_log(
    server: &Server,
    id: &SandboxId,
    app: &str,
    follow: bool,
    out: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> Result<()> {
    let remote = server.remote(id).await?;
    let words = ["tail", "-n", "+1", if follow { "-F" } else { "-q" }, LOG].map(str::to_owned);
    let launch = command(app, words);
    let end = session::run(
        &remote,
        launch,
        Input::None,
        |_| None,
        async |data| {
            let (Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)) = data;
            out.write_all(&bytes.0).await.and(out.flush().await).map_err(crate::output::gone)
        },
    )
    .await?;
    exit(&end)
}

async fn find(server: &Server, which: &Which) -> Result<Vec<ListedSandbox>> {
    let dir = absolute(&which.project)?;
    let label = (DIRECTORY.to_owned(), dir.display().to_string());
    server.list(&[label], "running").await
}

async fn only(server: &Server, which: &Which) -> Result<ListedSandbox> {
    find(server, which).await?.into_iter().next().ok_or_else(|| Failure::NotFound {
        message: format!("nothing of {} is up", which.project.display()),
        hint: Some("`soulbox up -d` starts it".into()),
    })
}

fn label<'a>(sandbox: &'a ListedSandbox, name: &str) -> &'a str {
    sandbox.metadata.get(name).map_or("", String::as_str)
}
