//! Many creations at once, each through its first command.

use std::time::{Duration, Instant};

use futures::future::join_all;
use soulbox_model::SandboxId;

use super::{
    Interrupt, Report, Row,
    floor::Floor,
    trip::{make, nothing, run as run_command},
};
use crate::{commands::subject::Subject, failure::Result, progress::Step, settings::Settings};

/// Lets what the round before left be cleaned up.
const REST: Duration = Duration::from_millis(700);

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    times: (u32, u32),
    interrupt: &Interrupt,
) -> Result<Report> {
    let work = async |floor: &Floor| measure(settings, subject, floor, times, interrupt).await;
    Floor::beside(subject, work).await
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    floor: &Floor,
    (number, rounds): (u32, u32),
    interrupt: &Interrupt,
) -> Result<Report> {
    let step = Step::count(&settings.output, u64::from(rounds), "creating sandboxes at once");
    let (mut floors, mut walls, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        interrupt.check()?;
        tokio::time::sleep(REST).await;
        floors.push(floor.burst(number).await?);
        tokio::time::sleep(REST).await;
        let began = Instant::now();
        let done = join_all((0..number).map(|_| one(subject))).await;
        walls.push(began.elapsed());
        let mut failure = None;
        for made in done {
            match made {
                Ok((id, total)) => {
                    subject.server.kill(&id).await?;
                    totals.push(total);
                }
                Err(error) => failure = Some(error),
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        step.advance(1);
    }
    drop(step);
    let bottom = Row::floor("floor, all of them", &mut floors);
    let wall = Row::above("all through their first command", &mut walls, &bottom);
    let total = Row::floor("each, from request to exit code", &mut totals);
    let words = (
        "over HTTP, all at once: POST a sandbox, run /bin/true in it, read its exit code",
        "as many processes with the same namespaces, cgroups and root, one thread for each processor",
    );
    let rows = vec![bottom, wall, total];
    Ok(Report::new(subject, words, rounds as usize, rows))
}

async fn one(subject: &Subject) -> Result<(SandboxId, Duration)> {
    let began = Instant::now();
    let (id, remote) = make(subject).await?;
    match run_command(&remote, &nothing()).await {
        Ok(()) => Ok((id, began.elapsed())),
        Err(failure) => {
            let _ = subject.server.kill(&id).await;
            Err(failure)
        }
    }
}
