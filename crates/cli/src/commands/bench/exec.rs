//! The round trip of a command in a live sandbox.

use std::time::Instant;

use soulbox_model::SandboxId;

use super::{
    Interrupt, Machine, Report, Row, floor,
    subject::{Subject, nothing, run as run_command},
};
use crate::{
    client::Remote,
    failure::{Failure, Result},
    progress::Step,
    settings::Settings,
};

/// Not counted: the first ones load caches.
const WARM_UP: u32 = 10;

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    number: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let made = subject.server.create(&subject.request(), None, false).await?;
    let id: SandboxId = made
        .sandbox_id
        .parse()
        .map_err(|error: soulbox_model::id::InvalidId| Failure::Protocol(error.to_string()))?;
    let remote = subject.server.remote_with(&id, made.envd_access_token);
    let measured = measure(settings, subject, &remote, number, interrupt).await;
    subject.server.kill(&id).await?;
    measured
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    remote: &Remote,
    number: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let step = Step::count(&settings.output, u64::from(number), "running commands");
    let command = nothing();
    let (mut floors, mut trips) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + number {
        interrupt.check()?;
        // One of each in turn: what the machine does meanwhile hits both alike.
        let bare = floor::bare().await?;
        let began = Instant::now();
        run_command(remote, &command).await?;
        let trip = began.elapsed();
        if round >= WARM_UP {
            floors.push(bare);
            trips.push(trip);
            step.advance(1);
        }
    }
    drop(step);
    let bottom = Row::floor("floor", &mut floors);
    let above = Row::above("command round trip", &mut trips, &bottom);
    Ok(Report {
        measured: "over HTTP, one after the other: start /bin/true in a live sandbox, read its exit code",
        floor: "fork, exec and wait of /bin/true on this machine",
        template: subject.template.clone(),
        samples: trips.len(),
        rows: vec![bottom, above],
        machine: Machine::this(),
        temporary_server: subject.is_temporary(),
    })
}
