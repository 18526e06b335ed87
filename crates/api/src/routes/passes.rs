//! Addresses that let a browser in to a private port.

use std::time::Duration;

use axum::{Json, extract::State};
use http::StatusCode;
use soulbox_model::Port;
use soulbox_wire::rest::{NewPortPass, PortPass};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    auth::TokenHolder,
    body::Body,
    path::SandboxPath,
    problem::{Problem, Result},
};

const USUAL: i32 = 3600;
const LONGEST: i32 = 24 * 3600;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(create_port_pass))
}

/// A pass for one private port. In an address, as the query parameter that the answer names, it lets
/// a browser in, which then has a cookie for that port.
#[utoipa::path(
    post,
    path = "/soulbox/v1/sandboxes/{sandboxID}/passes",
    tag = "soulbox",
    params(("sandboxID" = String, Path)),
    request_body = NewPortPass,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses(
        (status = 201, body = PortPass),
        (status = 409, description = "Its ports are public"),
        Problem
    )
)]
async fn create_port_pass(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    State(app): State<App>,
    Body(NewPortPass { port, timeout }): Body<NewPortPass>,
) -> Result<(StatusCode, Json<PortPass>)> {
    let bad = || Problem::invalid("port", "must be 1 to 65535");
    let port: Port = u16::try_from(port).ok().and_then(Port::new).ok_or_else(bad)?;
    let life = match timeout.unwrap_or(USUAL) {
        seconds @ 1..=LONGEST => Duration::from_secs(seconds.unsigned_abs().into()),
        _ => return Err(Problem::invalid("timeout", format!("must be 1 to {LONGEST} seconds"))),
    };
    let (pass, until) = app.control.port_pass(holder.caller.team, &id, port, life)?;
    Ok((
        StatusCode::CREATED,
        Json(PortPass {
            port: port.get(),
            parameter: "e2b-traffic-access-token".to_owned(),
            pass,
            expires_at: until,
        }),
    ))
}
