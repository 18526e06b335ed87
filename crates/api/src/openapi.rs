//! The OpenAPI document. It is put together by the router itself, so that it can't miss a route.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, extract::State, response::IntoResponse};
use http::header;
use soulbox_wire::rest::ErrorBody;
use utoipa::{
    IntoResponses, OpenApi, ToSchema,
    openapi::{
        Info, License, Ref, RefOr, Response, ResponseBuilder,
        content::ContentBuilder,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, problem::Problem};

#[derive(OpenApi)]
#[openapi(
    components(schemas(ErrorBody)),
    security(("ApiKeyAuth" = [])),
    tags(
        (name = "sandboxes", description = "Sandboxes, as E2B's clients use them"),
        (name = "templates", description = "What sandboxes are made from"),
        (name = "keys", description = "Teams and API keys"),
        (name = "secrets", description = "Values that rules and environments name"),
        (name = "soulbox", description = "SoulBox's own API"),
        (name = "health", description = "For load balancers and scripts"),
        (name = "later", description = "Routes of E2B that this server answers with 501"),
    )
)]
struct Frame;

/// The routes and the document of them.
pub fn split(routes: OpenApiRouter<App>) -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, paths) = routes.split_for_parts();
    let mut document = Frame::openapi();
    document.merge(paths);
    let mut info = Info::new("SoulBox", env!("CARGO_PKG_VERSION"));
    info.description =
        Some("The control plane of SoulBox: E2B's REST API and SoulBox's own.".into());
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".into());
    info.license = Some(license);
    document.info = info;
    if let Some(components) = &mut document.components {
        let key = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
        components.add_security_scheme("ApiKeyAuth", SecurityScheme::ApiKey(key));
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("BearerAuth", bearer);
    }
    (router, document)
}

/// The document as text.
pub fn render(document: &utoipa::openapi::OpenApi) -> Arc<str> {
    let text = document.to_json().unwrap_or_else(|error| {
        tracing::error!(%error, "the OpenAPI document can't be rendered");
        String::from("{}")
    });
    text.into()
}

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(openapi_document))
}

/// This document.
#[utoipa::path(
    get,
    path = "/soulbox/v1/openapi.json",
    tag = "soulbox",
    security(()),
    responses((status = 200, body = Object, description = "OpenAPI 3.1"))
)]
async fn openapi_document(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], app.document.to_string())
}

/// Every operation fails alike.
impl IntoResponses for Problem {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let schema = Ref::from_schema_name(ErrorBody::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description("The error, in E2B's shape")
            .content("application/json", content)
            .build();
        BTreeMap::from([("default".to_owned(), RefOr::T(response))])
    }
}
