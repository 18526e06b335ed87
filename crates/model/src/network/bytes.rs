//! How many bytes a sandbox may exchange with a destination.

use serde::{Deserialize, Serialize};

use super::Destination;

/// Bytes that may go to a destination and come back, each counted over the life of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteLimit {
    pub destination: Destination,
    /// `None`: any number. At least one of both is there.
    pub sent: Option<u64>,
    pub received: Option<u64>,
}

/// What was sent to a destination that is limited and received from it, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BytesUsed {
    pub destination: Destination,
    pub sent: u64,
    pub received: u64,
}

impl ByteLimit {
    /// # Errors
    /// In words, for a limit that limits nothing or lets nothing through.
    pub fn new(
        destination: Destination,
        sent: Option<u64>,
        received: Option<u64>,
    ) -> Result<Self, String> {
        if sent.is_none() && received.is_none() {
            return Err(format!("`{destination}` needs `sent`, `received` or both, in bytes"));
        }
        if sent == Some(0) || received == Some(0) {
            return Err(format!("`{destination}`: 0 bytes is a denial; do not allow it instead"));
        }
        Ok(Self { destination, sent, received })
    }
}
