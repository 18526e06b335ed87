//! Names of their own that lead to a sandbox.

use axum::{Json, extract::State};
use http::StatusCode;
use soulbox_model::{Error, Port, network::Domain};
use soulbox_wire::rest::SandboxDomains;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    auth::TokenHolder,
    body::Body,
    path::SandboxPath,
    problem::{Problem, Result},
};

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(get_domains, put_domains))
}

/// Which names lead to a sandbox.
#[utoipa::path(
    get,
    path = "/soulbox/v1/sandboxes/{sandboxID}/domains",
    tag = "soulbox",
    params(("sandboxID" = String, Path)),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = SandboxDomains), Problem)
)]
async fn get_domains(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
) -> Result<Json<SandboxDomains>> {
    let (domains, port) = app.control.domains(holder.caller.team, &id)?;
    Ok(Json(SandboxDomains { domains, port: port.map(|port| port.get().into()) }))
}

/// Replace which names lead to a sandbox: requests to such a host go to this port of it. DNS must point
/// them at this server. They go with the sandbox.
#[utoipa::path(
    put,
    path = "/soulbox/v1/sandboxes/{sandboxID}/domains",
    tag = "soulbox",
    params(("sandboxID" = String, Path)),
    request_body = SandboxDomains,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 204, description = "In effect"), Problem)
)]
async fn put_domains(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    Body(SandboxDomains { domains, port }): Body<SandboxDomains>,
) -> Result<StatusCode> {
    let names: Vec<Domain> = domains
        .iter()
        .map(|name| name.parse().map_err(|why| Error::invalid("domains", why)))
        .collect::<Result<_, Error>>()?;
    let port =
        match port {
            Some(port) => Some(u16::try_from(port).ok().and_then(Port::new).ok_or_else(|| {
                Problem::invalid("port", format!("{port} is no port: 1 to 65535"))
            })?),
            None if names.is_empty() => None,
            None => return Err(Problem::invalid("port", "is missing: where the names lead to")),
        };
    let to = port.map(|port| (names, port));
    app.control.set_domains(holder.caller.team, &id, to).await?;
    Ok(StatusCode::NO_CONTENT)
}
