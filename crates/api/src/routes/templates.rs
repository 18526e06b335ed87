//! Templates as E2B's clients ask for them.

use axum::{Json, extract::State};
use soulbox_image::{Template, TemplateState, TemplateStatus};
use soulbox_model::{Error, TeamId};
use soulbox_wire::rest::{self, BuildStatus, TemplateAlias};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App,
    auth::{KeyHolder, TokenHolder},
    path::Segment,
    problem::{Problem, Result},
    query::Query,
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_templates))
        .routes(routes!(list_templates_v2))
        .routes(routes!(list_default_templates))
        .routes(routes!(resolve_alias))
}

/// Every template in one array (deprecated, but the CLI's way).
#[utoipa::path(
    get,
    path = "/templates",
    tag = "templates",
    params(("teamID" = Option<String>, Query, description = "Ignored: templates belong to the server")),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [rest::Template]), Problem)
)]
async fn list_templates(
    holder: TokenHolder,
    State(app): State<App>,
) -> Result<Json<Vec<rest::Template>>> {
    Ok(Json(all(&app, holder.caller.team)))
}

/// One page of templates; there are never so many that a second page exists.
#[utoipa::path(
    get,
    path = "/v2/templates",
    tag = "templates",
    params(
        ("teamID" = Option<String>, Query, description = "Ignored: templates belong to the server"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
        ("nextToken" = Option<String>, Query),
    ),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [rest::Template]), Problem)
)]
async fn list_templates_v2(
    holder: TokenHolder,
    query: Query,
    State(app): State<App>,
) -> Result<Json<Vec<rest::Template>>> {
    let limit = query.integer("limit", 1..=100)?.and_then(|limit| usize::try_from(limit).ok());
    if query.text("nextToken")?.is_some() {
        return Err(Problem::invalid("nextToken", "Invalid next token"));
    }
    let mut templates = all(&app, holder.caller.team);
    templates.truncate(limit.unwrap_or(usize::MAX));
    Ok(Json(templates))
}

/// The templates that every team can use: all of them.
#[utoipa::path(
    get,
    path = "/default-templates",
    tag = "templates",
    responses((status = 200, body = [rest::Template]), Problem)
)]
async fn list_default_templates(
    KeyHolder(caller): KeyHolder,
    State(app): State<App>,
) -> Result<Json<Vec<rest::Template>>> {
    Ok(Json(all(&app, caller.team)))
}

/// Whether a template of this name exists.
#[utoipa::path(
    get,
    path = "/templates/aliases/{alias}",
    tag = "templates",
    params(("alias" = String, Path)),
    responses((status = 200, body = TemplateAlias), Problem)
)]
async fn resolve_alias(
    KeyHolder(caller): KeyHolder,
    Segment(name): Segment,
    State(app): State<App>,
) -> Result<Json<TemplateAlias>> {
    let name = super::sandboxes::template_name(&name)?;
    let status =
        find(&app, caller.team, &name).ok_or_else(|| Error::not_found("template", &name))?;
    Ok(Json(TemplateAlias { template_id: status.id.into(), public: status.team.is_none() }))
}

/// A template by name or id, built or not, if the team may use it.
pub fn find(app: &App, team: TeamId, name: &str) -> Option<TemplateStatus> {
    let found = app.control.templates().find(name).ok()?;
    found.team.is_none_or(|owner| owner == team).then_some(found)
}

/// Every template that the team may use.
pub fn visible(app: &App, team: TeamId) -> impl Iterator<Item = TemplateStatus> + use<> {
    let all = app.control.templates().list().into_iter();
    all.filter(move |status| status.team.is_none_or(|owner| owner == team))
}

fn all(app: &App, team: TeamId) -> Vec<rest::Template> {
    visible(app, team).map(|status| render(app, status)).collect()
}

fn render(app: &App, status: TemplateStatus) -> rest::Template {
    let (built, build_status) = match &status.state {
        TemplateState::Ready(template) => (Some(template.as_ref()), BuildStatus::Ready),
        TemplateState::Building(_) => (None, BuildStatus::Building),
        TemplateState::Missing { error: Some(_) } => (None, BuildStatus::Error),
        TemplateState::Missing { error: None } => (None, BuildStatus::Waiting),
    };
    let resources = app.info.resources;
    let created_at = built.map_or(app.info.started_at, |template| template.created_at);
    rest::Template {
        build_id: built.map_or_else(Uuid::nil, build_id).to_string(),
        template_id: status.id.into(),
        cpu_count: resources.cpu_count(),
        memory_mb: resources.memory_mib(),
        disk_size_mb: resources.disk_mib(),
        public: status.team.is_none(),
        aliases: vec![status.name.clone()],
        names: vec![status.name],
        created_at,
        updated_at: created_at,
        created_by: None,
        last_spawned_at: None,
        spawn_count: 0,
        build_count: u32::from(built.is_some()),
        envd_version: soulbox_model::ENVD_VERSION.to_owned(),
        build_status,
    }
}

/// Clients want a UUID for a build; a template has one build, told from others by its time.
fn build_id(template: &Template) -> Uuid {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let time = template.created_at.timestamp_micros().to_le_bytes();
    let bytes = template.id.as_str().bytes().chain(time);
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}
