//! `soulbox doctor --attack`: the battery on this machine, and its score.

use std::net::{SocketAddr, ToSocketAddrs as _};

use soulbox_attack::{Battery, Finding, Ground, Line, Selection};
use tokio::sync::mpsc;

use super::stranger::Stranger;
use crate::{
    args::Doctor,
    client::Endpoint,
    commands::{interrupt::Interrupt, subject::Subject},
    data_dir::DataDir,
    failure::{Failure, Result},
    output::{Output, Tone, plain},
    progress::Step,
    settings::Settings,
};

/// The exit code for attacks that were not held.
const NOT_HELD: u8 = 6;

/// What the thread that attacks tells.
enum News {
    Begin(String),
    End(Line),
}

pub(super) async fn run(settings: &Settings, args: Doctor) -> Result<()> {
    let selection = Selection::of(&args.only).map_err(|unknown| Failure::Usage {
        message: format!("--only: {unknown}"),
        hint: Some("`soulbox doctor --attack --json` shows the id of each".into()),
    })?;
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::Environment {
            message: "the attacks are looked at from the host's side too".into(),
            hint: "run it as root".into(),
        });
    }
    let interrupt = Interrupt::listen()?;
    let subject = Subject::find(settings, args.template, &interrupt).await?;
    let lines = attack(settings, &subject, &Battery::new(&selection), &interrupt).await;
    subject.end().await;
    let lines = lines?;
    interrupt.check()?;
    if !settings.output.json {
        show(&settings.output, &lines)?;
    }
    match lines.iter().any(|line| line.result == Finding::Broken) {
        true => Err(Failure::Exit(NOT_HELD)),
        false => Ok(()),
    }
}

async fn attack(
    settings: &Settings,
    subject: &Subject,
    battery: &Battery,
    interrupt: &Interrupt,
) -> Result<Vec<Line>> {
    let data_dir = subject.data_dir.as_ref().ok_or_else(|| Failure::Usage {
        message: "--attack looks at the server's machine, which is not this one".into(),
        hint: Some("run it there, without --api-url and E2B_API_URL".into()),
    })?;
    let data_dir = DataDir::new(data_dir);
    let said = data_dir
        .announcement()?
        .ok_or_else(|| Failure::NoServer { data_dir: data_dir.path().display().to_string() })?;
    let stranger = Stranger::open(&data_dir).await?;
    let ground = Ground {
        address: address(&said.url)?,
        key: subject.server.key().to_owned(),
        stranger: Some(stranger.key.clone()),
        template: subject.template.clone(),
        data_dir: data_dir.path().to_owned(),
        server: said.pid,
    };
    let lines = carry_out(settings, ground, battery, interrupt).await;
    stranger.close().await;
    lines
}

async fn carry_out(
    settings: &Settings,
    ground: Ground,
    battery: &Battery,
    interrupt: &Interrupt,
) -> Result<Vec<Line>> {
    let output = settings.output;
    let step = Step::count(&output, battery.len() as u64, "attacking");
    let (tell, mut hear) = mpsc::unbounded_channel();
    let (battery, stop) = (battery.clone(), interrupt.flag());
    let attacks = tokio::task::spawn_blocking(move || {
        // Nobody hears it when the user's terminal is gone; the attacks are cleaned up all the same.
        let begin = |id: &str| drop(tell.send(News::Begin(id.to_owned())));
        let end = |line| drop(tell.send(News::End(line)));
        soulbox_attack::run(&ground, &battery, &stop, begin, end)
    });
    let mut lines = Vec::new();
    let mut printed = Ok(());
    while let Some(news) = hear.recv().await {
        match news {
            News::Begin(id) if output.lively() => step.say(format!("attacking: {id}")),
            News::Begin(_) => {}
            News::End(line) => {
                if output.json && printed.is_ok() {
                    printed = output.record(&line);
                    if printed.is_err() {
                        interrupt.request();
                    }
                }
                lines.push(line);
                step.advance(1);
            }
        }
    }
    attacks.await.map_err(|error| Failure::io("attacks")(std::io::Error::other(error)))?;
    printed.map(|()| lines)
}

/// Where the listener is reached from here; it answers plain HTTP to this machine, also beside TLS.
fn address(url: &str) -> Result<SocketAddr> {
    let endpoint: Endpoint = url.parse().map_err(Failure::Protocol)?;
    let mut addresses =
        (endpoint.host.as_str(), endpoint.port).to_socket_addrs().map_err(Failure::io(url))?;
    addresses.next().ok_or_else(|| Failure::Protocol(format!("{url} leads nowhere")))
}

fn show(output: &Output, lines: &[Line]) -> Result<()> {
    let rows = lines.iter().map(|line| {
        let (tone, result) = match line.result {
            Finding::Held => (Tone::Good, "held"),
            Finding::Broken => (Tone::Bad, "broken"),
            Finding::Skipped => (Tone::Quiet, "skipped"),
        };
        vec![output.tint(tone, result), line.id.clone(), plain(&line.why)]
    });
    output.table(&["RESULT", "ATTACK", "WHY"], rows.collect())?;
    let count = |result| lines.iter().filter(|line| line.result == result).count();
    let (held, skipped) = (count(Finding::Held), count(Finding::Skipped));
    let applicable = lines.len() - skipped;
    let tone = if held == applicable { Tone::Good } else { Tone::Bad };
    let score = format!("{held} of {applicable} applicable attacks held");
    output.line(format!("\n{}, {skipped} skipped", output.tint(tone, score)))
}
