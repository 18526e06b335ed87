//! The round trip of a command in a live sandbox.

use std::time::Instant;

use super::{
    Machine, Report, Row, floor,
    trip::{make, nothing, run as run_command},
};
use crate::{
    client::Remote,
    commands::{interrupt::Interrupt, subject::Subject},
    failure::Result,
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
    let (id, remote) = make(subject).await?;
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
        figures: Vec::new(),
        machine: Machine::this(),
        temporary_server: subject.is_temporary(),
    })
}
