//! Lists of sandboxes.

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use http::{HeaderMap, HeaderValue};
use soulbox_control::{ListFilter, Order, Page};
use soulbox_wire::rest::ListedSandbox;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::render;
use crate::{
    App,
    auth::KeyHolder,
    problem::{Problem, Result},
    query::Query,
    stack::{NEXT_TOKEN, TOTAL_RUNNING},
};

/// Longer page tokens are none of ours.
const MAX_TOKEN: usize = 256;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(list_sandboxes)).routes(routes!(list_sandboxes_v2))
}

/// All running sandboxes in one array (deprecated).
#[utoipa::path(
    get,
    path = "/sandboxes",
    tag = "sandboxes",
    params(("metadata" = Option<String>, Query, description = "Pairs that must all match")),
    responses((status = 200, body = [ListedSandbox]), Problem)
)]
async fn list_sandboxes(
    KeyHolder(caller): KeyHolder,
    query: Query,
    State(app): State<App>,
) -> Result<Json<Vec<ListedSandbox>>> {
    let filter = ListFilter { metadata: query.metadata()?, ..ListFilter::default() };
    let mut page = Page::default();
    let mut all = Vec::new();
    loop {
        let listed = app.control.list(caller.team, filter.clone(), page).await?;
        all.extend(listed.items.into_iter().map(render::listed));
        let Some(next) = listed.next else { return Ok(Json(all)) };
        page = Page { token: Some(next), ..Page::default() };
    }
}

/// One page of sandboxes, newest first. `X-Next-Token` names the next page while there is one.
#[utoipa::path(
    get,
    path = "/v2/sandboxes",
    tag = "sandboxes",
    params(
        ("metadata" = Option<String>, Query, description = "Pairs that must all match"),
        ("state" = Option<String>, Query, description = "Comma-joined `running`, `paused`; both when absent"),
        ("order" = Option<String>, Query, description = "`asc` or `desc` by start time"),
        ("startedAfter" = Option<String>, Query, description = "RFC 3339, inclusive"),
        ("template" = Option<String>, Query, description = "Template id or name"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
        ("nextToken" = Option<String>, Query),
    ),
    responses((status = 200, body = [ListedSandbox]), Problem)
)]
async fn list_sandboxes_v2(
    KeyHolder(caller): KeyHolder,
    query: Query,
    State(app): State<App>,
) -> Result<(HeaderMap, Json<Vec<ListedSandbox>>)> {
    let running = wants_running(&query)?;
    let filter = ListFilter {
        metadata: query.metadata()?,
        // Nothing of this server is ever paused: without the running ones nothing is left.
        states: (!running).then(BTreeSet::new),
        template: template(&query)?,
        started_after: query.date("startedAfter")?,
        order: match query.text("order")? {
            None | Some("desc") => Order::Descending,
            Some("asc") => Order::Ascending,
            Some(_) => return Err(Problem::invalid("order", "must be `asc` or `desc`")),
        },
    };
    let limit = query.integer("limit", 1..=100)?.and_then(|limit| usize::try_from(limit).ok());
    let token = match query.text("nextToken")? {
        Some(token) if token.len() > MAX_TOKEN => {
            return Err(Problem::invalid("nextToken", "Invalid next token"));
        }
        token => token.map(str::to_owned),
    };
    let page = Page { limit: limit.unwrap_or(Page::MAX), token };

    let listed = app.control.list(caller.team, filter, page).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = listed.next.as_deref().and_then(|next| HeaderValue::from_str(next).ok()) {
        headers.insert(NEXT_TOKEN, next);
    }
    if running {
        headers.insert(TOTAL_RUNNING, HeaderValue::from(listed.total_running));
    }
    Ok((headers, Json(listed.items.into_iter().map(render::listed).collect())))
}

fn wants_running(query: &Query) -> Result<bool> {
    let Some(states) = query.list("state").filter(|states| !states.is_empty()) else {
        return Ok(true);
    };
    if states.iter().any(|state| !["running", "paused"].contains(state)) {
        return Err(Problem::invalid("state", "must be `running`, `paused` or both"));
    }
    Ok(states.contains(&"running"))
}

fn template(query: &Query) -> Result<Option<String>> {
    let Some(name) = query.text("template")? else { return Ok(None) };
    if name.contains(':') {
        return Err(Problem::invalid("template", "must be without a tag"));
    }
    if name.len() > 256 {
        return Err(Problem::invalid("template", "too long"));
    }
    Ok(Some(name.trim().to_lowercase()))
}
