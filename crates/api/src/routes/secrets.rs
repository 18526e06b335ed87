//! Secrets: E2B's routes, and SoulBox's own for what those lack, the hosts that a secret is bound
//! to. No answer holds a value.

use axum::{Json, extract::State};
use http::{HeaderMap, HeaderValue, StatusCode};
use soulbox_control::{self as control, Caller, SECRETS_FULL, SecretChange};
use soulbox_model::{Error, network::Pattern};
use soulbox_wire::rest::{BoundSecret, NewSecret, PutSecret, Secret, SecretUpdate};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    auth::{KeyHolder, TokenHolder},
    body::Body,
    path::Segment,
    problem::{Problem, Result},
    query::Query,
    stack::NEXT_TOKEN,
};

const PAGE: i64 = 100;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_secrets, create_secret))
        .routes(routes!(get_secret, update_secret, delete_secret))
        .routes(routes!(list_bound_secrets))
        .routes(routes!(get_bound_secret, put_secret))
}

/// Store a secret.
#[utoipa::path(
    post,
    path = "/secrets",
    tag = "secrets",
    request_body = NewSecret,
    responses((status = 201, body = Secret), Problem)
)]
async fn create_secret(
    KeyHolder(caller): KeyHolder,
    State(app): State<App>,
    Body(NewSecret { name, value, metadata }): Body<NewSecret>,
) -> Result<(StatusCode, Json<Secret>)> {
    let new = control::NewSecret {
        name: parse_name(&name)?,
        value,
        metadata: metadata.unwrap_or_default(),
        hosts: Vec::new(),
    };
    let made = app.control.secrets().create(caller.team, new).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(render(made))))
}

/// One page of the team's secrets, by name. `X-Next-Token` names the next page while there is one.
#[utoipa::path(
    get,
    path = "/secrets",
    tag = "secrets",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
        ("nextToken" = Option<String>, Query),
    ),
    responses((status = 200, body = [Secret]), Problem)
)]
async fn list_secrets(
    KeyHolder(caller): KeyHolder,
    query: Query,
    State(app): State<App>,
) -> Result<(HeaderMap, Json<Vec<Secret>>)> {
    let (headers, items) = page(&app, &caller, &query).await?;
    Ok((headers, Json(items.into_iter().map(render).collect())))
}

/// One secret, by id or name.
#[utoipa::path(
    get,
    path = "/secrets/{secretID}",
    tag = "secrets",
    params(("secretID" = String, Path, description = "Id or name")),
    responses((status = 200, body = Secret), Problem)
)]
async fn get_secret(
    KeyHolder(caller): KeyHolder,
    Segment(which): Segment,
    State(app): State<App>,
) -> Result<Json<Secret>> {
    Ok(Json(render(app.control.secrets().get(caller.team, &which).await?)))
}

/// Give a secret a new value.
#[utoipa::path(
    post,
    path = "/secrets/{secretID}",
    tag = "secrets",
    params(("secretID" = String, Path, description = "Id or name")),
    request_body = SecretUpdate,
    responses((status = 200, body = Secret), Problem)
)]
async fn update_secret(
    KeyHolder(caller): KeyHolder,
    Segment(which): Segment,
    State(app): State<App>,
    Body(SecretUpdate { value, metadata }): Body<SecretUpdate>,
) -> Result<Json<Secret>> {
    let change = SecretChange { value: Some(value), metadata, hosts: None };
    Ok(Json(render(app.control.secrets().change(caller.team, &which, change).await?)))
}

/// Delete a secret: rules that name it stop working at once.
#[utoipa::path(
    delete,
    path = "/secrets/{secretID}",
    tag = "secrets",
    params(("secretID" = String, Path, description = "Id or name")),
    responses((status = 204, description = "Deleted"), Problem)
)]
async fn delete_secret(
    KeyHolder(caller): KeyHolder,
    Segment(which): Segment,
    State(app): State<App>,
) -> Result<StatusCode> {
    app.control.secrets().delete(caller.team, &which).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The same list with the hosts that each secret is bound to.
#[utoipa::path(
    get,
    path = "/soulbox/v1/secrets",
    tag = "soulbox",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
        ("nextToken" = Option<String>, Query),
    ),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [BoundSecret]), Problem)
)]
async fn list_bound_secrets(
    holder: TokenHolder,
    query: Query,
    State(app): State<App>,
) -> Result<(HeaderMap, Json<Vec<BoundSecret>>)> {
    let (headers, items) = page(&app, &holder.caller, &query).await?;
    Ok((headers, Json(items.into_iter().map(bound).collect())))
}

/// One secret with the hosts that it is bound to.
#[utoipa::path(
    get,
    path = "/soulbox/v1/secrets/{secretID}",
    tag = "soulbox",
    params(("secretID" = String, Path, description = "Id or name")),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = BoundSecret), Problem)
)]
async fn get_bound_secret(
    holder: TokenHolder,
    Segment(which): Segment,
    State(app): State<App>,
) -> Result<Json<BoundSecret>> {
    Ok(Json(bound(app.control.secrets().get(holder.caller.team, &which).await?)))
}

/// Store a secret under a name, or change what the body names of the one that is there.
#[utoipa::path(
    put,
    path = "/soulbox/v1/secrets/{secretID}",
    tag = "soulbox",
    params(("secretID" = String, Path, description = "Name; an id for one that is there")),
    request_body = PutSecret,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses(
        (status = 200, body = BoundSecret, description = "Changed"),
        (status = 201, body = BoundSecret, description = "Made"),
        Problem
    )
)]
async fn put_secret(
    holder: TokenHolder,
    Segment(which): Segment,
    State(app): State<App>,
    Body(PutSecret { value, metadata, hosts }): Body<PutSecret>,
) -> Result<(StatusCode, Json<BoundSecret>)> {
    let team = holder.caller.team;
    let hosts = hosts.as_deref().map(parse_hosts).transpose()?;
    let change = SecretChange { value, metadata, hosts };
    let secrets = app.control.secrets();
    let name = match secrets.change(team, &which, change.clone()).await {
        Ok(changed) => return Ok((StatusCode::OK, Json(bound(changed)))),
        Err(Error::NotFound { .. }) if !which.starts_with("sec_") => parse_name(&which)?,
        Err(error) => return Err(error.into()),
    };
    let Some(value) = change.value else {
        return Err(Problem::invalid("value", "a secret that is not there yet needs one"));
    };
    let new = control::NewSecret {
        name,
        value,
        metadata: change.metadata.unwrap_or_default(),
        hosts: change.hosts.unwrap_or_default(),
    };
    let made = secrets.create(team, new).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(bound(made))))
}

async fn page(
    app: &App,
    caller: &Caller,
    query: &Query,
) -> Result<(HeaderMap, Vec<control::Secret>)> {
    let limit = query.integer("limit", 1..=PAGE)?.unwrap_or(PAGE);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let token = query.text("nextToken")?;
    let page = app.control.secrets().list(caller.team, limit, token).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = page.next.and_then(|next| HeaderValue::from_str(next.as_str()).ok()) {
        headers.insert(NEXT_TOKEN, next);
    }
    Ok((headers, page.items))
}

/// Newer clients choose their exception by this word.
fn refused(error: Error) -> Problem {
    let full = matches!(&error, Error::Conflict(text) if text == SECRETS_FULL);
    let problem = Problem::from(error);
    if full { problem.error_code("secret_limit_reached") } else { problem }
}

fn parse_name(text: &str) -> Result<soulbox_model::network::SecretName> {
    text.trim().parse().map_err(|why: String| Problem::invalid("name", why))
}

fn parse_hosts(texts: &[String]) -> Result<Vec<Pattern>> {
    let parse =
        |text: &String| text.trim().parse().map_err(|why: String| Problem::invalid("hosts", why));
    texts.iter().map(parse).collect()
}

fn render(secret: control::Secret) -> Secret {
    Secret {
        secret_id: secret.id.into(),
        name: secret.name.into(),
        current_version: secret.version,
        metadata: secret.metadata,
        created_at: secret.created_at,
        updated_at: secret.updated_at,
    }
}

fn bound(secret: control::Secret) -> BoundSecret {
    let hosts = secret.hosts.iter().map(ToString::to_string).collect();
    BoundSecret { hosts, secret: render(secret) }
}
