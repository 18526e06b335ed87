//! SoulBox's own routes.

use axum::{Json, extract::State};
use http::StatusCode;
use soulbox_control::{ListFilter, Page};
use soulbox_image::{TemplateState as Build, TemplateStatus};
use soulbox_model::{Error, TeamId};
use soulbox_wire::rest::{
    NetworkUsage, SandboxUsage, ServerStatus, TemplateProgress, TemplateState,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::templates::{find, visible};
use crate::{
    App,
    auth::TokenHolder,
    path::{SandboxPath, Segment},
    problem::{Problem, Result},
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(server_info))
        .routes(routes!(sandbox_usage))
        .routes(routes!(list_template_states))
        .routes(routes!(template_state))
        .routes(routes!(build_template, template_build, stop_build))
}

/// What this server is.
#[utoipa::path(
    get,
    path = "/soulbox/v1/info",
    tag = "soulbox",
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = ServerStatus), Problem)
)]
async fn server_info(holder: TokenHolder, State(app): State<App>) -> Result<Json<ServerStatus>> {
    let page = Page { limit: 1, token: None };
    let listed = app.control.list(holder.caller.team, ListFilter::default(), page).await?;
    Ok(Json(ServerStatus {
        version: app.info.version.clone(),
        engine: app.info.engine.clone(),
        envd_version: soulbox_model::ENVD_VERSION.to_owned(),
        started_at: app.info.started_at,
        domain: app.control.domain().map(str::to_owned),
        running: listed.total_running as u64,
    }))
}

/// What a running sandbox has used up to this moment.
#[utoipa::path(
    get,
    path = "/soulbox/v1/sandboxes/{sandboxID}/usage",
    tag = "soulbox",
    params(("sandboxID" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = SandboxUsage), Problem)
)]
async fn sandbox_usage(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
) -> Result<Json<SandboxUsage>> {
    let usage = app.control.usage(holder.caller.team, &id).await?;
    let network = app.control.traffic_counts(holder.caller.team, &id)?;
    Ok(Json(SandboxUsage {
        cpu_micros: usage.cpu_nanos / 1000,
        memory_bytes: usage.memory_bytes,
        memory_peak_bytes: Some(usage.memory_peak_bytes).filter(|peak| *peak > 0),
        disk_bytes: usage.disk_bytes,
        pids: usage.pids,
        oom_kills: usage.oom_kills,
        network: Some(NetworkUsage {
            sent_bytes: network.sent,
            received_bytes: network.received,
            allowed: network.allowed,
            denied: network.denied,
            failed: network.failed,
        }),
    }))
}

/// Every template that this server can build, and how far each is.
#[utoipa::path(
    get,
    path = "/soulbox/v1/templates",
    tag = "soulbox",
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [TemplateProgress]), Problem)
)]
async fn list_template_states(
    holder: TokenHolder,
    State(app): State<App>,
) -> Json<Vec<TemplateProgress>> {
    Json(visible(&app, holder.caller.team).map(progress).collect())
}

/// One template.
#[utoipa::path(
    get,
    path = "/soulbox/v1/templates/{name}",
    tag = "soulbox",
    params(("name" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = TemplateProgress), Problem)
)]
async fn template_state(
    holder: TokenHolder,
    Segment(name): Segment,
    State(app): State<App>,
) -> Result<Json<TemplateProgress>> {
    let status = known(&app, holder.caller.team, &name)?;
    app.builds.touch(&status.name);
    Ok(Json(progress(status)))
}

/// Build a template in the background, unless it is there. Ask for its progress with GET.
#[utoipa::path(
    post,
    path = "/soulbox/v1/templates/{name}/build",
    tag = "soulbox",
    params(("name" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses(
        (status = 200, body = TemplateProgress, description = "It is there already"),
        (status = 202, body = TemplateProgress, description = "It is being built"),
        Problem
    )
)]
async fn build_template(
    holder: TokenHolder,
    Segment(name): Segment,
    State(app): State<App>,
) -> Result<(StatusCode, Json<TemplateProgress>)> {
    let status = known(&app, holder.caller.team, &name)?;
    if let Build::Ready(_) = status.state {
        return Ok((StatusCode::OK, Json(progress(status))));
    }
    if status.team.is_some() {
        app.control.check_preparation(holder.caller.team, &status.name)?;
    }
    app.builds.start(app.control.templates(), &status.name, false);
    Ok((StatusCode::ACCEPTED, Json(started(status))))
}

/// What is told of a build that was just asked for.
pub(super) fn started(status: TemplateStatus) -> TemplateProgress {
    TemplateProgress {
        state: TemplateState::Building,
        percent: Some(0),
        error: None,
        ..progress(status)
    }
}

/// How far the build of a template is.
#[utoipa::path(
    get,
    path = "/soulbox/v1/templates/{name}/build",
    tag = "soulbox",
    params(("name" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = TemplateProgress), Problem)
)]
async fn template_build(
    holder: TokenHolder,
    segment: Segment,
    state: State<App>,
) -> Result<Json<TemplateProgress>> {
    template_state(holder, segment, state).await
}

/// Stop the build of a template that the team derived, for all who wait for it.
#[utoipa::path(
    delete,
    path = "/soulbox/v1/templates/{name}/build",
    tag = "soulbox",
    params(("name" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 204, description = "Nothing is left of it"), Problem)
)]
async fn stop_build(
    holder: TokenHolder,
    Segment(name): Segment,
    State(app): State<App>,
) -> Result<StatusCode> {
    let status = known(&app, holder.caller.team, &name)?;
    if status.team.is_none() {
        let message =
            format!("template `{}` is the server's, and every team may wait for it", status.name);
        return Err(Error::Conflict(message).into());
    }
    if !app.control.templates().stop(&status.name).await {
        return Err(
            Error::Conflict(format!("template `{}` is not being built", status.name)).into()
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn known(app: &App, team: TeamId, name: &str) -> Result<TemplateStatus> {
    find(app, team, name).ok_or_else(|| Error::not_found("template", name).into())
}

pub(super) fn progress(status: TemplateStatus) -> TemplateProgress {
    let empty = TemplateProgress {
        name: status.name,
        template_id: None,
        state: TemplateState::Missing,
        percent: None,
        step: None,
        building_since: status.began,
        error: None,
        size_bytes: None,
        created_at: None,
        parent: status.parent,
    };
    match status.state {
        Build::Ready(template) => TemplateProgress {
            template_id: Some(template.id.to_string()),
            state: TemplateState::Ready,
            size_bytes: Some(template.size_bytes),
            created_at: Some(template.created_at),
            ..empty
        },
        Build::Building(now) => TemplateProgress {
            state: TemplateState::Building,
            percent: Some(now.percent),
            step: Some(now.step),
            ..empty
        },
        Build::Missing { error: None } => empty,
        Build::Missing { error: Some(error) } => {
            TemplateProgress { state: TemplateState::Failed, error: Some(error), ..empty }
        }
    }
}
