//! What must be the same after any attack as before it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    attack::{Fault, hold},
    field::Field,
    host::{self, KernelLog},
};

/// How long the neighbour's command may take after an attack, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lines of the kernel's log that no attack may cause: the machine's own out-of-memory killer (that
/// of a cgroup says "Memory cgroup out of memory") and faults of the kernel itself.
const ALARMS: &[&str] =
    &["Out of memory: ", "BUG: ", "Oops: ", "general protection fault: ", "Kernel panic"];

/// The host before an attack.
#[derive(Debug)]
pub(crate) struct Footing {
    settings: BTreeMap<&'static str, String>,
    log: KernelLog,
}

impl Footing {
    pub(crate) fn take() -> Self {
        Self { settings: host::settings(), log: KernelLog::from_now() }
    }

    /// # Errors
    /// What is not as before.
    pub(crate) fn compare(mut self, field: &Field<'_>) -> Result<(), Fault> {
        hold!(host::is_there(field.ground.server), "the server is gone");
        let settings = host::settings();
        for (name, before) in &self.settings {
            let now = settings.get(name);
            hold!(now == Some(before), "the host's {name} was `{before}` and is `{now:?}`");
        }
        let alarm = self
            .log
            .lines()
            .into_iter()
            .find(|line| ALARMS.iter().any(|alarm| line.starts_with(alarm)));
        hold!(alarm.is_none(), "the kernel reports: {}", alarm.unwrap_or_default());
        field.neighbour_answers(PATIENCE).map(drop)
    }
}
