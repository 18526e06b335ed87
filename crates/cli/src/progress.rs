//! What happens meanwhile, on stderr, once it takes over a second: a live line on a terminal, plain
//! lines elsewhere.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::output::Output;

/// What ends sooner is not worth a line.
const QUIET: Duration = Duration::from_secs(1);

/// At least so much time is between two lines of a step: what unpacks hundreds of packages names each.
const PACE: Duration = Duration::from_secs(2);

/// When the last line was.
#[derive(Debug, Default)]
struct Pace(Option<Instant>);

impl Pace {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|last| now.duration_since(last) >= PACE);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// One step that may take a while. Ends when dropped. Lives on a tokio runtime.
#[derive(Debug)]
pub struct Step {
    bar: ProgressBar,
    output: Output,
    shown: Arc<AtomicBool>,
    pace: Mutex<Pace>,
    reveal: JoinHandle<()>,
}

impl Step {
    /// Of unknown length.
    pub fn spin(output: &Output, text: impl Into<Cow<'static, str>>) -> Self {
        Self::start(output, ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}", text.into())
    }

    /// Of `total` parts.
    pub fn count(output: &Output, total: u64, text: impl Into<Cow<'static, str>>) -> Self {
        let shape = "{msg} {wide_bar} {pos}/{len} {eta}";
        Self::start(output, ProgressBar::new(total), shape, text.into())
    }

    /// Of `total` bytes.
    pub fn bytes(output: &Output, total: Option<u64>, text: impl Into<Cow<'static, str>>) -> Self {
        let (bar, shape) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
        };
        Self::start(output, bar, shape, text.into())
    }

    fn start(output: &Output, bar: ProgressBar, shape: &str, text: Cow<'static, str>) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(shape) {
            bar.set_style(style);
        }
        bar.set_message(text);
        let shown = Arc::new(AtomicBool::new(false));
        let reveal = {
            let (bar, output, shown) = (bar.clone(), *output, Arc::clone(&shown));
            tokio::spawn(async move {
                tokio::time::sleep(QUIET).await;
                shown.store(true, Ordering::Relaxed);
                if output.lively() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(Duration::from_millis(120));
                } else {
                    output.note(bar.message());
                }
            })
        };
        Self { bar, output: *output, shown, pace: Mutex::default(), reveal }
    }

    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    pub fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Another text for the same step.
    pub fn say(&self, text: impl Into<Cow<'static, str>>) {
        let text = text.into();
        let seen = self.shown.load(Ordering::Relaxed) && !self.output.lively();
        if seen && self.pace.lock().is_due(Instant::now()) {
            self.output.note(&text);
        }
        self.bar.set_message(text);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.reveal.abort();
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_distance() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        let due: Vec<u64> = (0..50)
            .map(|n| n * 100)
            .filter(|ms| pace.is_due(began + Duration::from_millis(*ms)))
            .collect();
        assert_eq!(due, [0, 2000, 4000]);
    }
}
