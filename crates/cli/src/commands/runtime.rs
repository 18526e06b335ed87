//! `soulbox runtime …`.

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use soulbox_runtime::detect::{self, DetectError, Detection, Detector, Runtime};
use tokio::process::Command;

use super::sandbox::session::Interrupts;
use crate::{
    args::project::Runtime as Args,
    failure::{Failure, Result},
    output::{Tone, plain},
    settings::Settings,
};

/// How often a directory that is watched is asked for; while nothing changes, that is no look at it. Where the
/// machine has no watches left it is one each time, which then takes at most a part of the time.
const EVERY: Duration = Duration::from_millis(200);
const PART: u32 = 10;

pub(super) async fn run(settings: &Settings, command: Args) -> Result<()> {
    match command {
        Args::Detect { directory, watch: true } => watch(settings, &directory).await,
        Args::Detect { directory, watch: false } => detect(settings, &directory).await,
        Args::List => list(settings),
    }
}

async fn detect(settings: &Settings, directory: &Path) -> Result<()> {
    let found = detect::detect(directory).map_err(unreadable)?;
    say(settings, &found, false).await?;
    if found.runtime.is_none() { Err(Failure::Exit(3)) } else { Ok(()) }
}

/// # Errors
/// Always, in the end: when there is no such directory any more, or after a signal.
async fn watch(settings: &Settings, directory: &Path) -> Result<()> {
    let interrupts = Interrupts::new()?;
    let detector = Arc::new(Detector::new());
    let mut said: Option<Arc<Detection>> = None;
    loop {
        let began = Instant::now();
        let (detector, directory) = (Arc::clone(&detector), directory.to_owned());
        let look = tokio::task::spawn_blocking(move || detector.detect(&directory));
        let look = async { look.await.map_err(|error| Failure::Protocol(error.to_string())) };
        let found = interrupts.or(look).await?.map_err(unreadable)?;
        let took = began.elapsed();
        if said.as_ref() != Some(&found) {
            interrupts.or(say(settings, &found, true)).await?;
            said = Some(found);
        }
        let pause = async {
            tokio::time::sleep(EVERY.max(took * PART)).await;
            Ok(())
        };
        interrupts.or(pause).await?;
    }
}

fn unreadable(error: DetectError) -> Failure {
    Failure::io(error.path.display().to_string())(error.source)
}

/// Says what was found, as one of several or alone.
async fn say(settings: &Settings, found: &Detection, several: bool) -> Result<()> {
    let installed = match found.runtime {
        Some(runtime) => installed(runtime).await,
        None => None,
    };
    if !settings.output.json {
        return tell(settings, found, installed.as_deref());
    }
    let mut said = json!(found);
    said["installed"] = json!(installed);
    if several { settings.output.record(&said) } else { settings.output.value(&said) }
}

fn tell(settings: &Settings, found: &Detection, installed: Option<&str>) -> Result<()> {
    let output = &settings.output;
    match found.runtime {
        Some(runtime) => output.line(output.tint(Tone::Strong, runtime))?,
        None => output.line("none")?,
    }
    let mut rows = vec![vec!["rule".to_owned(), plain(&found.rule)]];
    if let Some(version) = &found.version {
        rows.push(vec!["wants".to_owned(), plain(version)]);
    }
    if let Some(version) = installed {
        rows.push(vec!["on this machine".to_owned(), plain(version)]);
    }
    let saying = |what: &str, evidence: &detect::Evidence| {
        vec![what.to_owned(), format!("{}: {}", plain(&evidence.file), plain(&evidence.reason))]
    };
    rows.extend(found.evidence.iter().map(|evidence| saying("for it", evidence)));
    let other =
        |evidence: &detect::Evidence| saying(&format!("for {}", evidence.runtime), evidence);
    rows.extend(found.against.iter().map(other));
    rows.extend(found.parts.iter().map(|part| {
        vec!["part".to_owned(), format!("{}: {}", plain(&part.directory), part.runtime)]
    }));
    let outside = found.outside.iter().map(|file| vec!["link out of it".to_owned(), plain(file)]);
    rows.extend(outside);
    for row in rows {
        output.line(format!("  {:<16} {}", row[0], row[1]))?;
    }
    if found.truncated {
        output.note("The directory has more than was looked at.");
    }
    Ok(())
}

/// The version of the runtime's program on this machine, as it says itself.
async fn installed(runtime: Runtime) -> Option<String> {
    let said = Command::new(runtime.program())
        .arg("--version")
        // Not where the project could say what is run.
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = tokio::time::timeout(Duration::from_secs(2), said).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&said.stdout);
    let line: String = text.lines().next()?.trim().chars().take(80).collect();
    (said.status.success() && !line.is_empty()).then_some(line)
}

fn list(settings: &Settings) -> Result<()> {
    let output = &settings.output;
    if output.json {
        let all: Vec<_> = Runtime::ALL
            .iter()
            .map(|runtime| {
                json!({
                    "name": runtime.id(),
                    "title": runtime.to_string(),
                    "program": runtime.program(),
                    "template": runtime.template(),
                    "found_by": runtime.found_by(),
                })
            })
            .collect();
        return output.value(&all);
    }
    let row = |runtime: &Runtime| {
        [runtime.id(), runtime.program(), runtime.template(), runtime.found_by()]
            .map(str::to_owned)
            .to_vec()
    };
    let header = ["NAME", "PROGRAM", "TEMPLATE", "FOUND BY"];
    output.table(&header, Runtime::ALL.iter().map(row).collect())
}
