//! Whether a project has too little memory.

use soulbox_model::SandboxId;

use crate::{
    client::Server,
    output::{Output, bytes},
};

/// Of a hundred: with so much in use, besides what could be read again, a program is slow, and long not killed.
const NEARLY: u64 = 90;

/// Says so where a project that failed had less memory than it needed, which it cannot say itself.
pub(super) async fn tell(server: &Server, output: &Output, id: &SandboxId, limit: u64) {
    // What has ended does not answer.
    let Ok(usage) = server.usage(id).await else { return };
    let what = match usage.oom_kills {
        0 if !nearly_all(server, id).await => return,
        0 => "nearly all of it is in use",
        _ => "the kernel killed a process that wanted more",
    };
    output.note(format!(
        "memory: resources.memory is {}, and {what}; `--set resources.memory=2GB` gives it 2 GB",
        bytes(limit)
    ));
}

async fn nearly_all(server: &Server, id: &SandboxId) -> bool {
    let samples = server.metrics(id).await.unwrap_or_default();
    samples.last().is_some_and(|last| {
        last.mem_used.saturating_sub(last.mem_cache) >= last.mem_total / 100 * NEARLY
    })
}
