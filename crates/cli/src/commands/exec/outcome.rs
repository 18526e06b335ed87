//! What came of a program, and how it is told.

use std::io::IsTerminal as _;

use serde::{Serialize, Serializer};
use soulbox_runtime::adapters::{Adapter, Diagnosis};

use super::{
    artifacts::{Artifact, Collected},
    page::Page,
};
use crate::{
    failure::{Failure, Result},
    output::{Output, plain},
};

/// What came of a program.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub runtime: &'static str,
    pub sandbox_id: String,
    pub exit_code: u8,
    pub status: Status,
    pub stdout: String,
    pub stderr: String,
    /// Whether the stream was longer than what is kept of it.
    pub stdout_truncated: bool,
    pub stderr_truncated: bool,
    pub duration_ms: f64,
    /// Of the whole sandbox; absent when it ended first.
    pub cpu_ms: Option<f64>,
    pub peak_memory_bytes: Option<u64>,
    pub diagnosis: Option<Diagnosis>,
    #[serde(flatten)]
    pub collected: Collected,
    #[serde(flatten)]
    pub page: Page,
    /// Why artifacts or results of a page are missing, if something went wrong with them.
    #[serde(serialize_with = "in_words")]
    pub incomplete: Option<Failure>,
    /// Whether there is still a sandbox that something can be fetched from.
    #[serde(skip)]
    pub alive: bool,
}

fn in_words<S: Serializer>(
    failure: &Option<Failure>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    failure.as_ref().map(ToString::to_string).serialize(to)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Exited,
    Timeout,
    Oom,
    /// By a signal.
    Killed,
}

/// Says what came of a program, and ends as it did.
///
/// # Errors
/// The exit code that is not 0, or what was not brought out.
pub(super) fn finish(mut outcome: Outcome, adapter: &dyn Adapter, output: &Output) -> Result<()> {
    outcome.runtime = adapter.name();
    outcome.diagnosis = match outcome.status {
        Status::Oom => Some(Diagnosis {
            kind: "out-of-memory",
            message: "the program needed more memory than its sandbox has".into(),
            advice: "let it use less, or give it more with --memory".into(),
        }),
        Status::Timeout => Some(Diagnosis {
            kind: "timeout",
            message: "the program did not end in time and was killed".into(),
            advice: "give it more with --timeout".into(),
        }),
        _ if outcome.exit_code != 0 => adapter.diagnose(&outcome.stderr),
        _ => None,
    };
    if output.json {
        output.value(&outcome)?;
    } else {
        tell(&outcome, output)?;
    }
    match (outcome.exit_code, outcome.incomplete) {
        (0, None) => Ok(()),
        (0, Some(lost)) => Err(lost),
        (code, _) => Err(Failure::Exit(code)),
    }
}

/// Says what came of a program besides what it said itself.
fn tell(outcome: &Outcome, output: &Output) -> Result<()> {
    if let Some(dom) = &outcome.page.dom {
        if std::io::stdout().is_terminal() {
            dom.lines().try_for_each(|line| output.line(plain(line)))?;
        } else {
            output.line(dom)?;
        }
    }
    if let Some(why) = outcome.incomplete.as_ref().filter(|_| outcome.exit_code != 0) {
        output.note(format!("not all was brought out: {}", plain(&why.to_string())));
    }
    for Artifact { name, size, media_type, truncated } in &outcome.collected.artifacts {
        let cut = if *truncated { ", truncated" } else { "" };
        output.note(format!("artifact {name}: {media_type}, {size} bytes{cut}"));
    }
    match outcome.collected.artifacts_left_out {
        0 => {}
        count => output.note(format!("left out: {count} that are no plain files, or too many")),
    }
    if let Some(Diagnosis { kind, message, advice }) = &outcome.diagnosis {
        output.note(format!("{kind}: {}: {advice}", plain(message)));
    }
    Ok(())
}
