//! `/files`: the contents of files, in and out.

use std::sync::Arc;

use axum::Router;

use crate::State;

/// The routes of `/files`.
pub fn router(_state: Arc<State>) -> Router {
    Router::new()
}
