//! The handlers, by subject.

mod derived;
mod domains;
mod health;
mod keys;
mod later;
mod listing;
mod metrics;
mod network;
mod observe;
mod passes;
mod render;
mod requests;
pub(crate) mod sandboxes;
mod secrets;
mod soulbox;
mod templates;
mod traffic;

use utoipa_axum::router::OpenApiRouter;

use crate::{App, openapi};

/// Every route, each with its part of the OpenAPI document.
pub fn all() -> OpenApiRouter<App> {
    let router = OpenApiRouter::default()
        .merge(health::routes())
        .merge(sandboxes::routes())
        .merge(network::routes())
        .merge(listing::routes())
        .merge(observe::routes())
        .merge(metrics::routes())
        .merge(passes::routes())
        .merge(requests::routes())
        .merge(traffic::routes())
        .merge(domains::routes())
        .merge(templates::routes())
        .merge(keys::routes())
        .merge(secrets::routes())
        .merge(soulbox::routes())
        .merge(derived::routes())
        .merge(openapi::routes());
    later::add(router)
}
