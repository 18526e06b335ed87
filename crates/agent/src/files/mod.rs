//! `/files`: the contents of files, in and out.
//!
//! Bodies are streamed in pieces of a fixed size: whatever the size of a file, a transfer holds about
//! two pieces in memory, one on its way to or from the disk and one on its way to or from the network.
//! The disk is touched on blocking threads only; a small file costs one hop in all.
//! Start reading at [`download`] and [`upload`].

mod compose;
mod content_type;
mod download;
pub(crate) mod encoding;
pub(crate) mod gunzip;
pub(crate) mod incoming;
pub(crate) mod multipart;
mod outgoing;
pub(crate) mod query;
pub(crate) mod range;
mod refusal;
pub(crate) mod signature;
mod target;
mod upload;
mod writer;

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{State, reply};

/// The routes of `/files`. They check the access token, or a signature in its place, themselves.
pub fn router(state: Arc<State>) -> Router {
    let files =
        get(download::get).post(upload::post).head(only("GET, POST")).fallback(only("GET, POST"));
    let compose = post(compose::post).fallback(only("POST"));
    Router::new().route("/files", files).route("/files/compose", compose).with_state(state)
}

/// Answers the methods that a path does not have.
fn only(allowed: &'static str) -> impl Fn() -> Ready<Response> + Clone + Send + Sync + 'static {
    move || {
        let refused = reply::error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
        ready(([(header::ALLOW, allowed)], refused).into_response())
    }
}
