//! The control plane over HTTP: E2B's REST routes and SoulBox's own below `/soulbox/v1`.
//!
//! A handler parses, makes one call into [`soulbox_control::Control`], and renders: every rule of a
//! sandbox's life is decided there, not here. This crate neither listens on a socket nor reaches
//! into a sandbox; that is the gateway. Bodies are in [`soulbox_wire::rest`].
//! Start with [`router`], then `routes/sandboxes.rs`.

mod auth;
mod body;
mod builds;
#[doc(hidden)]
pub mod fuzzing;
mod openapi;
mod path;
mod problem;
mod query;
mod routes;
mod stack;

use std::sync::Arc;

use axum::Router;
use chrono::{DateTime, Utc};
use soulbox_control::Control;
use soulbox_model::Resources;

use crate::builds::Builds;

/// What the server tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// Version of the server, such as `0.1.0`.
    pub version: String,
    /// Name of the isolation engine.
    pub engine: String,
    pub started_at: DateTime<Utc>,
    /// Of every sandbox.
    pub resources: Resources,
}

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) control: Control,
    pub(crate) info: Arc<ServerInfo>,
    pub(crate) builds: Arc<Builds>,
    /// The OpenAPI document.
    pub(crate) document: Arc<str>,
}

/// The whole control plane.
///
/// Template builds that it started are stopped when the last clone of the router is dropped; the next
/// server starts them afresh.
pub fn router(control: Control, info: ServerInfo) -> Router {
    let (router, document) = openapi::split(routes::all());
    let app = App {
        control,
        info: Arc::new(info),
        builds: Arc::default(),
        document: openapi::render(&document),
    };
    stack::surround(router.with_state(app))
}

/// The OpenAPI document of [`router`], as `/soulbox/v1/openapi.json` serves it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::split(routes::all()).1
}
