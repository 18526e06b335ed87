//! Create, one command and kill, for as long as it is told, as fast as it goes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::try_join_all;

use super::{
    Figure, Interrupt, Report, Row,
    floor::Floor,
    trip::{make, nothing, run as run_command},
};
use crate::{commands::subject::Subject, failure::Result, progress::Step, settings::Settings};

pub(super) async fn run(
    settings: &Settings,
    subject: &Subject,
    seconds: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let work = async |floor: &Floor| measure(settings, subject, floor, seconds, interrupt).await;
    Floor::beside(subject, work).await
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    floor: &Floor,
    seconds: u32,
    interrupt: &Interrupt,
) -> Result<Report> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let span = Duration::from_secs(u64::from(seconds));
    let (mut floors, kernel) = {
        let _step = Step::spin(&settings.output, "what the kernel alone can do");
        let began = Instant::now();
        let floors = floor.sustained(span / 3).await?;
        let rate = floors.len() as f64 / began.elapsed().as_secs_f64();
        (floors, rate)
    };
    let step = Arc::new(Step::count(&settings.output, 0, "create, command, kill"));
    let began = Instant::now();
    // Two for each processor: while one waits for an answer, another has work.
    let all = try_join_all((0..workers * 2).map(async |_| {
        let mut trips = Vec::new();
        while began.elapsed() < span {
            interrupt.check()?;
            let began = Instant::now();
            let (id, remote) = make(subject).await?;
            let ran = run_command(&remote, &nothing()).await;
            subject.server.kill(&id).await?;
            ran?;
            trips.push(began.elapsed());
            step.advance(1);
        }
        Ok::<_, crate::failure::Failure>(trips)
    }))
    .await?;
    let rate = |count: usize| count as f64 / began.elapsed().as_secs_f64();
    let mut trips = all.concat();
    let ours = rate(trips.len());
    drop(step);
    let bottom = Row::floor("floor", &mut floors);
    let trip = Row::floor("create, command and kill", &mut trips);
    let words = (
        "over HTTP, two at a time for each processor: POST a sandbox, run /bin/true in it, DELETE it",
        "processes with the same namespaces, cgroups and root, made and reaped, one thread for each processor",
    );
    let rows = vec![bottom, trip];
    Ok(Report {
        figures: vec![
            Figure::new("floor", kernel, "per second"),
            Figure { ratio: Some(ours / kernel), ..Figure::new("sandboxes", ours, "per second") },
        ],
        ..Report::new(subject, words, trips.len(), rows)
    })
}
