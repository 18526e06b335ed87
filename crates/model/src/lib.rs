//! What SoulBox talks about: ids, resources, what a sandbox may reach, the boot handshake between engine
//! and agent, the layered error, the retry policy and circuit breakers.
//!
//! Pure data and rules; nothing here does I/O, so every other crate may depend on it.
//! Start with [`id`] and [`error`].

pub mod boot;
pub mod breaker;
mod code;
pub mod error;
pub mod id;
pub mod network;
pub mod resources;
pub mod retry;
pub mod secret;

pub use breaker::{BreakerPolicy, Breakers};
pub use error::{BoxError, Error, Result};
pub use id::{Port, SandboxId, SecretId, TeamId, TemplateId};
pub use resources::{DiskRate, LONGEST_LIFE, Resources};
pub use retry::{RetryPolicy, Retryable};
pub use secret::SecretValue;

/// The port on which the agent answers inside every sandbox, as E2B clients expect it.
pub const AGENT_PORT: Port = Port::AGENT;

/// The envd version that the agent advertises; clients choose their behaviour by it.
pub const ENVD_VERSION: &str = "0.6.13";
