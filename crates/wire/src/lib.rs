//! What travels between clients, the gateway, the server and the agent of a sandbox.
//!
//! [`process`] and [`filesystem`] are generated from `proto/` and speak the Connect protocol;
//! [`rest`] holds the bodies of the control plane, [`signature`] makes signed links to files, [`signal`]
//! names signals. Nothing here decides anything: behaviour lives in `agent` and `api`. Clients may depend
//! on this crate without depending on server code.
//! Start with `proto/process/process.proto`.

#![allow(refining_impl_trait)]

pub mod rest;
pub mod signal;
pub mod signature;

pub use generated::{filesystem, process};

#[allow(missing_debug_implementations, unused_qualifications, clippy::all, clippy::unwrap_used)]
mod generated {
    connectrpc::include_generated!();
}
