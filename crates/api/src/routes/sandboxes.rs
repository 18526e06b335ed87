//! The life of one sandbox: create, get, kill, and the requests that move its end.

pub(crate) mod create;

use std::time::Duration;

use axum::{Json, extract::State};
use http::StatusCode;
use soulbox_model::Error;
use soulbox_wire::rest::{Connect, ConnectV2, Refresh, Resume, Sandbox, SandboxDetail, Timeout};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use create::template_name;

use super::render;
use crate::{
    App,
    auth::KeyHolder,
    body::{Body, OptionalBody},
    path::SandboxPath,
    problem::{Problem, Result},
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create::create_sandbox))
        .routes(routes!(create::create_sandbox_v2))
        .routes(routes!(get_sandbox, kill_sandbox))
        .routes(routes!(set_sandbox_timeout))
        .routes(routes!(refresh_sandbox))
        .routes(routes!(connect_sandbox))
        .routes(routes!(connect_sandbox_v2))
        .routes(routes!(resume_sandbox))
}

/// One sandbox.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandboxID}",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    responses((status = 200, body = SandboxDetail), Problem)
)]
async fn get_sandbox(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
) -> Result<Json<SandboxDetail>> {
    Ok(Json(render::detail(app.control.get(caller.team, &id).await?)))
}

/// End a sandbox and remove all it had.
#[utoipa::path(
    delete,
    path = "/sandboxes/{sandboxID}",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    responses((status = 204, description = "Its processes are dead"), Problem)
)]
async fn kill_sandbox(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
) -> Result<StatusCode> {
    app.control.kill(caller.team, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a sandbox end so many seconds from now, sooner or later than it would have.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/timeout",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = Timeout,
    responses((status = 204, description = "Set; at most the server's longest life"), Problem)
)]
async fn set_sandbox_timeout(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    Body(Timeout { timeout }): Body<Timeout>,
) -> Result<StatusCode> {
    app.control.set_timeout(caller.team, &id, at_least_zero(timeout)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Keep a sandbox alive for at least so many seconds from now.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/refreshes",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = Refresh,
    responses((status = 204, description = "Never shortens"), Problem)
)]
async fn refresh_sandbox(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    OptionalBody(Refresh { duration }): OptionalBody<Refresh>,
) -> Result<StatusCode> {
    let seconds = u64::try_from(duration.unwrap_or_default())
        .map_err(|_| Problem::invalid("duration", "must be 0 to 3600 seconds"))?;
    app.control.refresh(caller.team, &id, Duration::from_secs(seconds)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Connect to a sandbox and keep it alive for at least so many seconds from now.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/connect",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = Connect,
    responses((status = 200, body = Sandbox, description = "It was running"), Problem)
)]
async fn connect_sandbox(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    Body(Connect { timeout, .. }): Body<Connect>,
) -> Result<Json<Sandbox>> {
    let timeout = connect_timeout(timeout)?;
    Ok(Json(render::sandbox(app.control.connect(caller.team, &id, timeout).await?)))
}

/// Connect to a sandbox and keep it alive for at least so many seconds from now; 300 if not said.
#[utoipa::path(
    post,
    path = "/v2/sandboxes/{sandboxID}/connect",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = ConnectV2,
    responses((status = 200, body = Sandbox, description = "It was running"), Problem)
)]
async fn connect_sandbox_v2(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    OptionalBody(ConnectV2 { timeout, .. }): OptionalBody<ConnectV2>,
) -> Result<Json<Sandbox>> {
    const DEFAULT: i32 = 300;
    let timeout = connect_timeout(timeout.unwrap_or(DEFAULT))?;
    Ok(Json(render::sandbox(app.control.connect(caller.team, &id, timeout).await?)))
}

/// Wake a paused sandbox (deprecated; `connect` does it too). A running one is a 409.
#[utoipa::path(
    post,
    path = "/sandboxes/{sandboxID}/resume",
    tag = "sandboxes",
    params(("sandboxID" = String, Path)),
    request_body = Resume,
    responses((status = 409, description = "It runs already"), Problem)
)]
async fn resume_sandbox(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    OptionalBody(Resume { timeout, .. }): OptionalBody<Resume>,
) -> Result<StatusCode> {
    connect_timeout(timeout.unwrap_or_default())?;
    // No sandbox of this server is ever paused, so there is none to wake.
    let sandbox = app.control.get(caller.team, &id).await?;
    Err(Error::Conflict(format!("sandbox `{}` is already running", sandbox.id)).into())
}

fn at_least_zero(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn connect_timeout(seconds: i32) -> Result<Duration> {
    if seconds < 0 {
        return Err(Problem::invalid("timeout", "Timeout cannot be negative"));
    }
    Ok(at_least_zero(seconds))
}
