//! From the request to create a sandbox to the exit code of its first command.

use std::time::Instant;

use soulbox_model::SandboxId;

use super::{
    Interrupt, Machine, Report, Row,
    floor::Floor,
    subject::{Subject, nothing, run as run_command, settle},
};
use crate::{
    failure::{Failure, Result},
    progress::Step,
    settings::Settings,
};

/// Not counted: the first ones load caches.
const WARM_UP: u32 = 5;

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    number: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let floor = Floor::open(subject).await?;
    let measured = measure(settings, subject, &floor, number, interrupt).await;
    floor.end().await;
    measured
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    floor: &Floor,
    number: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let step = Step::count(&settings.output, u64::from(number), "creating sandboxes");
    let (request, command) = (subject.request(), nothing());
    let (mut floors, mut requests, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + number {
        interrupt.check()?;
        // One of each in turn: what the machine does meanwhile hits both alike.
        settle().await;
        // The quicker of two: the first one wakes what slept, and the floor is what is possible.
        let bare = floor.measure().await?.min(floor.measure().await?);
        settle().await;
        let began = Instant::now();
        let made = subject.server.create(&request, None, false).await?;
        let answered = began.elapsed();
        let id: SandboxId = made
            .sandbox_id
            .parse()
            .map_err(|error: soulbox_model::id::InvalidId| Failure::Protocol(error.to_string()))?;
        let remote = subject.server.remote_with(&id, made.envd_access_token);
        let ran = run_command(&remote, &command).await;
        let total = began.elapsed();
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
    Ok(Report {
        measured: "over HTTP, one after the other: POST a sandbox, run /bin/true in it, read its exit code",
        floor: "one process with the same namespaces, cgroups and root, made, run and reaped; the quicker of two",
        template: subject.template.clone(),
        samples: totals.len(),
        rows: std::iter::once(bottom).chain(rows).collect(),
        machine: Machine::this(),
        temporary_server: subject.is_temporary(),
    })
}
