//! Teams and API keys. The server has no users: whoever holds a key of a team manages its keys.

use axum::{Json, extract::State};
use http::StatusCode;
use soulbox_control::{ApiKey, Mask};
use soulbox_wire::rest::{self, CreatedApiKey, KeyMask, NewApiKey, Team};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App,
    auth::TokenHolder,
    body::Body,
    path::Segment,
    problem::{Problem, Result},
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_teams))
        .routes(routes!(list_keys, create_key))
        .routes(routes!(rename_key, revoke_key))
}

/// The caller's team, with the key that the request came with.
#[utoipa::path(
    get,
    path = "/teams",
    tag = "keys",
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [Team]), Problem)
)]
async fn list_teams(holder: TokenHolder, State(app): State<App>) -> Result<Json<Vec<Team>>> {
    let team = app.control.team(holder.caller.team).await?;
    Ok(Json(vec![Team {
        team_id: team.id.to_string(),
        name: team.name,
        api_key: holder.key,
        is_default: true,
    }]))
}

/// The keys of the caller's team.
#[utoipa::path(
    get,
    path = "/api-keys",
    tag = "keys",
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [rest::ApiKey]), Problem)
)]
async fn list_keys(holder: TokenHolder, State(app): State<App>) -> Result<Json<Vec<rest::ApiKey>>> {
    let keys = app.control.list_keys(holder.caller.team).await?;
    Ok(Json(keys.into_iter().map(render).collect()))
}

/// Make a key. This answer is the only one that shows it.
#[utoipa::path(
    post,
    path = "/api-keys",
    tag = "keys",
    request_body = NewApiKey,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 201, body = CreatedApiKey), Problem)
)]
async fn create_key(
    holder: TokenHolder,
    State(app): State<App>,
    Body(NewApiKey { name }): Body<NewApiKey>,
) -> Result<(StatusCode, Json<CreatedApiKey>)> {
    let made = app.control.create_key(holder.caller.team, &name, None).await?;
    let key = render(made.key);
    Ok((
        StatusCode::CREATED,
        Json(CreatedApiKey {
            id: key.id,
            name: key.name,
            key: made.plain,
            mask: key.mask,
            created_at: key.created_at,
            created_by: key.created_by,
            last_used: key.last_used,
        }),
    ))
}

/// Rename a key.
#[utoipa::path(
    patch,
    path = "/api-keys/{keyID}",
    tag = "keys",
    params(("keyID" = String, Path)),
    request_body = NewApiKey,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, description = "Renamed"), Problem)
)]
async fn rename_key(
    holder: TokenHolder,
    Segment(id): Segment,
    State(app): State<App>,
    Body(NewApiKey { name }): Body<NewApiKey>,
) -> Result<StatusCode> {
    let id = key_id(&id)?;
    app.control.rename_key(holder.caller.team, id, &name).await?;
    Ok(StatusCode::OK)
}

/// Revoke a key: requests with it fail within a second.
#[utoipa::path(
    delete,
    path = "/api-keys/{keyID}",
    tag = "keys",
    params(("keyID" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 204, description = "Revoked"), Problem)
)]
async fn revoke_key(
    holder: TokenHolder,
    Segment(id): Segment,
    State(app): State<App>,
) -> Result<StatusCode> {
    let id = key_id(&id)?;
    app.control.revoke_key(holder.caller.team, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn key_id(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| Problem::invalid("keyID", "must be a UUID"))
}

fn render(key: ApiKey) -> rest::ApiKey {
    let Mask { prefix, value_length, masked_value_prefix, masked_value_suffix } = key.mask;
    rest::ApiKey {
        id: key.id.to_string(),
        name: key.name,
        mask: KeyMask { prefix, value_length, masked_value_prefix, masked_value_suffix },
        created_at: key.created_at,
        created_by: None,
        last_used: key.last_used_at,
    }
}
