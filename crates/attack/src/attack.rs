//! What an attack is, and what may come of it.

use std::{fmt, io};

use serde::Serialize;

use crate::field::Field;

/// What an attack aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Memory, processes, disk, descriptors: more than the share.
    Resources,
    /// System calls, entry points and namespaces: out of the sandbox.
    Kernel,
    /// Paths that a client reads or writes.
    Files,
    /// What the agent and the gateway parse.
    Agent,
    /// Keys, tokens, signatures and who may ask what.
    Identity,
    /// What one sandbox leaves for the next.
    Reuse,
    /// Ways to the network.
    Network,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Kernel => "kernel",
            Self::Files => "files",
            Self::Agent => "agent",
            Self::Identity => "identity",
            Self::Reuse => "reuse",
            Self::Network => "network",
        }
    }
}

/// Whom a hostile program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Root,
    User,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
        }
    }
}

/// How an attack is carried out.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// One time; the attack itself says as whom.
    Once(fn(&Field<'_>) -> Outcome),
    /// As root and as the ordinary user, one after the other.
    Each(fn(&Field<'_>, Who) -> Outcome),
    /// Not: what it needs is not there, for this reason.
    Not(&'static str),
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Never changes: `<group>-<what>`.
    pub id: &'static str,
    pub group: Group,
    pub title: &'static str,
    /// What holds it off.
    pub defence: &'static str,
    /// What remains all the same; empty if nothing is known.
    pub remains: &'static str,
    pub how: How,
}

/// What was observed, or why it came to nothing good.
pub type Outcome = Result<String, Fault>;

/// Why an attack was not held.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Something happened that must not.
    #[error("{0}")]
    Broken(String),
    /// This machine, server or template lacks what the attack needs.
    #[error("{0}")]
    Skipped(String),
    /// It could not be carried out, so that nothing is known: counts as broken.
    #[error("the attack could not be carried out: {0}")]
    Failed(String),
    #[error("interrupted")]
    Interrupted,
}

impl Fault {
    pub fn broken(text: impl fmt::Display) -> Self {
        Self::Broken(text.to_string())
    }

    pub fn skipped(text: impl fmt::Display) -> Self {
        Self::Skipped(text.to_string())
    }

    pub fn failed(text: impl fmt::Display) -> Self {
        Self::Failed(text.to_string())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(format!("unexpected JSON: {error}"))
    }
}

/// What came of an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    Held,
    Broken,
    Skipped,
}

/// Ends the attack as broken unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($text:tt)+) => {
        let held: bool = $condition;
        if !held {
            return Err($crate::attack::Fault::Broken(format!($($text)+)));
        }
    };
}
pub(crate) use hold;
