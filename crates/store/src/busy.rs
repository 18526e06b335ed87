//! Waiting for a database that another process writes to.

use std::{future::Future, time::Duration};

use soulbox_model::RetryPolicy;

use crate::Result;

/// How long one attempt of a statement waits for the lock inside SQLite, holding the connection.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_millis(1500);

/// Between the attempts other writers of this server have their turn. All together they wait about five
/// seconds: somebody waits for the answer.
const POLICY: RetryPolicy = RetryPolicy {
    attempts: 3,
    first_delay: Duration::from_millis(100),
    factor: 2.0,
    max_delay: Duration::from_secs(1),
    total: Duration::from_secs(5),
};

/// Repeats a change that a busy database refused. It was not begun then, or it was undone whole: only
/// one statement or one transaction may be passed here.
pub(crate) async fn patiently<T, Fut>(change: impl FnMut() -> Fut) -> Result<T>
where
    Fut: Future<Output = Result<T>>,
{
    POLICY.run(tokio::time::sleep, change).await
}
