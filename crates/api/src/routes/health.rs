//! Whether the server is there, for whoever may ask.

use axum::extract::State;
use http::StatusCode;
use soulbox_model::Error;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    problem::{Problem, Result},
};

/// A well-formed key that no server makes: looking it up asks the database and nothing else.
const NOBODY: &str = "e2b_0000000000000000000000000000000000000000";

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(health)).routes(routes!(ready))
}

/// The server answers.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses((status = 200, description = "It does")))]
async fn health() -> StatusCode {
    StatusCode::OK
}

/// The server can work: its database answers.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "health",
    security(()),
    responses((status = 200, description = "It can"), Problem)
)]
async fn ready(State(app): State<App>) -> Result<StatusCode> {
    match app.control.authenticate(NOBODY).await {
        Ok(_) | Err(Error::Authentication { .. }) => Ok(StatusCode::OK),
        Err(error) => {
            let retry_after = error.retry_delay();
            let reason = format!("not ready: {error}");
            Err(Error::Unavailable { reason, retry_after, source: Some(error.into()) }.into())
        }
    }
}
