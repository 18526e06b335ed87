//! Processes of users: their table and the `process.Process` service.

/// Every process that the agent started and that is still of interest.
#[derive(Debug, Default)]
pub struct Table {}
