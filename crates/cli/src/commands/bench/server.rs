//! From the start of the server's process on a known data directory to its first answer.

use std::time::Duration;

use super::{Interrupt, Machine, Report, Row};
use crate::{
    commands::subject::{Extra, Temporary, fresh_dir, remove},
    failure::Result,
    progress::Step,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, number: u32, interrupt: &Interrupt) -> Result<Report> {
    let dir = fresh_dir("server")?;
    let measured = measure(settings, number, &dir, interrupt).await;
    remove(&dir);
    let mut starts = measured?;
    Ok(Report {
        measured: "soulbox serve on a known data directory without sandboxes, until it answers",
        floor: "none: these are figures of this machine",
        template: "none".into(),
        samples: starts.len(),
        rows: vec![Row::floor("start to ready", &mut starts)],
        figures: Vec::new(),
        machine: Machine::this(),
        temporary_server: true,
    })
}

async fn measure(
    settings: &Settings,
    number: u32,
    dir: &std::path::Path,
    interrupt: &Interrupt,
) -> Result<Vec<Duration>> {
    let step = Step::count(&settings.output, u64::from(number), "starting servers");
    let mut starts = Vec::new();
    // The very first one formats a file system.
    for round in 0..=number {
        let (server, took) = Temporary::start_on(dir, interrupt, &Extra::default()).await?;
        server.stop().await;
        if round > 0 {
            starts.push(took);
            step.advance(1);
        }
    }
    Ok(starts)
}
