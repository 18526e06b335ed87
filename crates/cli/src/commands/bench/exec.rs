//! The round trip of a command in a live sandbox.

use std::time::Instant;

use super::{
    Report, Row, floor,
    trip::{in_one, nothing, run as run_command},
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
    let work = async |remote: &Remote| measure(settings, subject, remote, number, interrupt).await;
    in_one(subject, work).await
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
    let words = (
        "over HTTP, one after the other: start /bin/true in a live sandbox, read its exit code",
        "fork, exec and wait of /bin/true on this machine",
    );
    let rows = vec![bottom, above];
    Ok(Report::new(subject, words, trips.len(), rows))
}
