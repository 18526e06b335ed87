//! Which requests a sandbox may send to which hosts, and how much.

use axum::{Json, extract::State};
use http::StatusCode;
use soulbox_model::network::{ByteLimit, Demands, RequestRate, RequestRule};
use soulbox_wire::rest::{self, RequestRules};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    auth::TokenHolder,
    body::Body,
    path::SandboxPath,
    problem::{Problem, Result},
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(get_requests, put_requests))
}

/// Which requests hosts get.
#[utoipa::path(
    get,
    path = "/soulbox/v1/sandboxes/{sandboxID}/requests",
    tag = "soulbox",
    params(("sandboxID" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = RequestRules), Problem)
)]
async fn get_requests(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
) -> Result<Json<RequestRules>> {
    let demands = app.control.requests(holder.caller.team, &id)?;
    Ok(Json(RequestRules::from(&demands)))
}

/// Replace which requests hosts get. A host that no rule names may get any; the rules of
/// `PUT /sandboxes/{sandboxID}/network` say which hosts are reached at all.
#[utoipa::path(
    put,
    path = "/soulbox/v1/sandboxes/{sandboxID}/requests",
    tag = "soulbox",
    params(("sandboxID" = String, Path)),
    request_body = RequestRules,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 204, description = "In effect, also for connections that are open"), Problem)
)]
async fn put_requests(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    Body(rules): Body<RequestRules>,
) -> Result<StatusCode> {
    app.control.set_requests(holder.caller.team, &id, demands("", &rules)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What stands below the field `at`.
pub(crate) fn demands(at: &str, rules: &RequestRules) -> Result<Demands> {
    let RequestRules { allow, per_minute, bytes, udp } = rules;
    let bad = |name: &str, why: String| Problem::invalid(format!("{at}{name}"), why);
    let requests = allow
        .iter()
        .map(|text| text.parse::<RequestRule>().map_err(|why| bad("allow", why)))
        .collect::<Result<_>>()?;
    let rates = per_minute
        .iter()
        .map(|(host, n)| {
            let bad = |why| bad("perMinute", why);
            RequestRate::new(host.parse().map_err(bad)?, *n).map_err(bad)
        })
        .collect::<Result<_>>()?;
    let bytes = bytes
        .iter()
        .map(|(destination, rest::ByteLimit { sent, received })| {
            let bad = |why| bad("bytes", why);
            ByteLimit::new(destination.parse().map_err(bad)?, *sent, *received).map_err(bad)
        })
        .collect::<Result<_>>()?;
    let udp = udp
        .iter()
        .map(|text| text.parse().map_err(|why| bad("udp", why)))
        .collect::<Result<_>>()?;
    Ok(Demands { requests, rates, bytes, udp })
}
