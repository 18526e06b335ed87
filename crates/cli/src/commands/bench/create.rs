//! From the request to create a sandbox to the exit code of its first command.

use std::time::Instant;

use super::{
    Report, Row,
    floor::Floor,
    load::Load,
    trip::{make, nothing, run as run_command, settle},
};
use crate::{
    commands::{interrupt::Interrupt, subject::Subject},
    failure::Result,
    progress::Step,
    settings::Settings,
};

/// Not counted: the first ones load caches.
const WARM_UP: u32 = 5;

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    (number, load): (u32, bool),
    interrupt: &Interrupt,
) -> Result<Report> {
    let load = load.then(Load::start).transpose()?;
    let load = load.as_ref();
    let work =
        async |floor: &Floor| measure(settings, subject, (floor, load), number, interrupt).await;
    Floor::beside(subject, work).await
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    (floor, load): (&Floor, Option<&Load>),
    number: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let step = Step::count(&settings.output, u64::from(number), "creating sandboxes");
    let command = nothing();
    let (mut floors, mut requests, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + number {
        interrupt.check()?;
        // One of each in turn: what the machine does meanwhile hits both alike.
        settle().await;
        // The quicker of two: the first one wakes what slept, and the floor is what is possible.
        let bare = floor.measure().await?.min(floor.measure().await?);
        // What others do hits the create alone; the floor is what an idle machine can.
        let working = load.map(Load::work);
        settle().await;
        let began = Instant::now();
        let (id, remote) = make(subject).await?;
        let answered = began.elapsed();
        let ran = run_command(&remote, &command).await;
        let total = began.elapsed();
        drop(working);
        subject.server.kill(&id).await?;
        ran?;
        if round >= WARM_UP {
            floors.push(bare);
            requests.push(answered);
            totals.push(total);
            step.advance(1);
        }
    }
    drop(step);
    let bottom = Row::floor("floor", &mut floors);
    let rows = vec![
        Row::above("create request", &mut requests, &bottom),
        Row::above("create and first command", &mut totals, &bottom),
    ];
    let words = (
        match load {
            None => {
                "over HTTP, one after the other: POST a sandbox, run /bin/true in it, read its exit code"
            }
            Some(_) => {
                "the same beside a thread of foreign work for each processor: POST a sandbox, run /bin/true in it, read its exit code"
            }
        },
        "one process with the same namespaces, cgroups and root, made, run and reaped; the quicker of two",
    );
    let rows = std::iter::once(bottom).chain(rows).collect();
    Ok(Report::new(subject, words, totals.len(), rows))
}
