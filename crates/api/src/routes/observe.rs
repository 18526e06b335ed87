//! Metrics and logs.

use axum::{Json, extract::State};
use soulbox_control::{Direction, Level, LogQuery};
use soulbox_model::Error;
use soulbox_wire::rest::{Metric, SandboxLogs, SandboxLogsV2, SandboxesWithMetrics};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::render;
use crate::{
    App,
    auth::KeyHolder,
    path::{SandboxPath, sandbox_id},
    problem::{Problem, Result},
    query::Query,
};

/// Sandboxes in one batch request.
const MAX_BATCH: usize = 100;
const MAX_SEARCH: usize = 256;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(sandbox_metrics))
        .routes(routes!(latest_metrics))
        .routes(routes!(sandbox_logs))
        .routes(routes!(sandbox_logs_v2))
}

/// What a sandbox used, oldest first; empty for an unknown sandbox.
#[utoipa::path(
    get,
    path = "/sandboxes/{sandboxID}/metrics",
    tag = "sandboxes",
    params(
        ("sandboxID" = String, Path),
        ("start" = Option<i64>, Query, description = "Seconds since 1970"),
        ("end" = Option<i64>, Query, description = "Seconds since 1970"),
    ),
    responses((status = 200, body = [Metric]), Problem)
)]
async fn sandbox_metrics(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    query: Query,
    State(app): State<App>,
) -> Result<Json<Vec<Metric>>> {
    let (start, end) = (query.unix_seconds("start")?, query.unix_seconds("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        return Err(Problem::invalid("start", "must not be after end"));
    }
    match app.control.metrics(caller.team, &id, start, end).await {
        Ok(samples) => Ok(Json(samples.iter().map(render::metric).collect())),
        // The original keeps metrics apart from sandboxes and knows no unknown ones.
        Err(Error::NotFound { .. }) => Ok(Json(Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// The newest sample of each of up to 100 sandboxes; unknown ones are left out.
#[utoipa::path(
    get,
    path = "/sandboxes/metrics",
    tag = "sandboxes",
    params(("sandbox_ids" = String, Query, description = "Comma-joined")),
    responses((status = 200, body = SandboxesWithMetrics), Problem)
)]
async fn latest_metrics(
    KeyHolder(caller): KeyHolder,
    query: Query,
    State(app): State<App>,
) -> Result<Json<SandboxesWithMetrics>> {
    let Some(mut given) = query.list("sandbox_ids").filter(|ids| !ids.is_empty()) else {
        return Err(Problem::invalid("sandbox_ids", "is required"));
    };
    given.sort_unstable();
    given.dedup();
    if given.len() > MAX_BATCH {
        return Err(Problem::invalid("sandbox_ids", format!("at most {MAX_BATCH} ids")));
    }
    let mut ids = Vec::with_capacity(given.len());
    for text in given {
        match sandbox_id(text) {
            Ok(id) => ids.push(id),
            Err(problem) if problem.status() == http::StatusCode::NOT_FOUND => {}
            Err(problem) => return Err(problem),
        }
    }
    let samples = app.control.latest_metrics(caller.team, &ids).await?;
    let sandboxes =
        samples.into_iter().map(|(id, sample)| (id.into(), render::metric(&sample))).collect();
    Ok(Json(SandboxesWithMetrics { sandboxes }))
}

/// Log lines, oldest first (deprecated).
#[utoipa::path(
    get,
    path = "/sandboxes/{sandboxID}/logs",
    tag = "sandboxes",
    params(
        ("sandboxID" = String, Path),
        ("start" = Option<i64>, Query, description = "Milliseconds since 1970"),
        ("limit" = Option<i64>, Query, minimum = 0, maximum = 1000),
    ),
    responses((status = 200, body = SandboxLogs), Problem)
)]
async fn sandbox_logs(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    query: Query,
    State(app): State<App>,
) -> Result<Json<SandboxLogs>> {
    let wanted = LogQuery {
        cursor: query.unix_millis("start")?,
        limit: limit(&query)?,
        direction: Direction::Forward,
        level: None,
        search: None,
    };
    let lines = app.control.logs(caller.team, &id, wanted).await?;
    Ok(Json(SandboxLogs {
        logs: lines.iter().map(render::log_line).collect(),
        log_entries: lines.into_iter().map(render::log_entry).collect(),
    }))
}

/// Log lines, newest first unless asked otherwise.
#[utoipa::path(
    get,
    path = "/v2/sandboxes/{sandboxID}/logs",
    tag = "sandboxes",
    params(
        ("sandboxID" = String, Path),
        ("cursor" = Option<i64>, Query, description = "Milliseconds since 1970"),
        ("limit" = Option<i64>, Query, minimum = 0, maximum = 1000),
        ("direction" = Option<String>, Query, description = "`forward` or `backward`"),
        ("level" = Option<String>, Query, description = "The least: `debug`, `info`, `warn`, `error`"),
        ("search" = Option<String>, Query, description = "Part of the message"),
    ),
    responses((status = 200, body = SandboxLogsV2), Problem)
)]
async fn sandbox_logs_v2(
    KeyHolder(caller): KeyHolder,
    SandboxPath(id): SandboxPath,
    query: Query,
    State(app): State<App>,
) -> Result<Json<SandboxLogsV2>> {
    let wanted = LogQuery {
        cursor: query.unix_millis("cursor")?,
        limit: limit(&query)?,
        direction: match query.text("direction")? {
            None | Some("backward") => Direction::Backward,
            Some("forward") => Direction::Forward,
            Some(_) => {
                return Err(Problem::invalid("direction", "must be `forward` or `backward`"));
            }
        },
        level: level(&query)?,
        search: search(&query)?,
    };
    let lines = app.control.logs(caller.team, &id, wanted).await?;
    Ok(Json(SandboxLogsV2 { logs: lines.into_iter().map(render::log_entry).collect() }))
}

fn limit(query: &Query) -> Result<usize> {
    let limit = query.integer("limit", 0..=1000)?.and_then(|limit| usize::try_from(limit).ok());
    Ok(limit.unwrap_or(LogQuery::MAX))
}

fn level(query: &Query) -> Result<Option<Level>> {
    let Some(word) = query.text("level")? else { return Ok(None) };
    let known = ["debug", "info", "warn", "error"].contains(&word);
    Level::parse(word)
        .filter(|_| known)
        .map(Some)
        .ok_or_else(|| Problem::invalid("level", "must be `debug`, `info`, `warn` or `error`"))
}

fn search(query: &Query) -> Result<Option<String>> {
    match query.text("search")? {
        Some(text) if text.len() > MAX_SEARCH => {
            Err(Problem::invalid("search", format!("at most {MAX_SEARCH} bytes")))
        }
        text => Ok(text.map(str::to_owned)),
    }
}
