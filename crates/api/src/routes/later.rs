//! Routes of E2B that this server knows and does not serve yet.
//!
//! They answer a typed 501, which clients raise as an error with our text. A 404 is for a sandbox or template
//! that does not exist, which clients tell from everything else: a pause raises another error then, and deleting
//! a snapshot answers `false`.

use axum::{
    extract::{FromRequestParts, RawPathParams, State},
    routing::{MethodFilter, on},
};
use http::request::Parts;
use soulbox_model::Error;
use utoipa::openapi::{
    HttpMethod, PathItem, RefOr,
    path::{OperationBuilder, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, Type},
};
use utoipa::{IntoResponses, openapi::Required};
use utoipa_axum::router::OpenApiRouter;

use super::{sandboxes::template_name, templates::find};
use crate::{
    App,
    auth::TokenHolder,
    path::sandbox_id,
    problem::{Problem, Result},
};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Holders of an API key; others get a 401 first.
    Team,
    /// Everybody: the original wants credentials here that this server does not have.
    Anybody,
}

struct Later {
    method: HttpMethod,
    path: &'static str,
    feature: &'static str,
    who: Who,
}

const fn later(method: HttpMethod, path: &'static str, feature: &'static str) -> Later {
    Later { method, path, feature, who: Who::Team }
}

const fn foreign(method: HttpMethod, path: &'static str, feature: &'static str) -> Later {
    Later { method, path, feature, who: Who::Anybody }
}

use HttpMethod::{Delete, Get, Patch, Post, Put};

const PAUSE: &str = "pausing a sandbox";
const SNAPSHOTS: &str = "taking snapshots of a sandbox";
const FORK: &str = "forking a sandbox";
const BUILDS: &str = "building templates";
const TAGS: &str = "tagging templates";
const TEMPLATES: &str = "changing templates";
const VOLUMES: &str = "volume storage";
const TEAM_METRICS: &str = "measuring a team";
const TOKENS: &str = "issuing access tokens";
const ADMIN: &str = "administering nodes";

/// Two-segment paths are what clients before 2.41 make of a name with a namespace.
const ROUTES: &[Later] = &[
    later(Post, "/sandboxes/{sandboxID}/pause", PAUSE),
    later(Post, "/sandboxes/{sandboxID}/snapshots", SNAPSHOTS),
    later(Get, "/snapshots", SNAPSHOTS),
    later(Post, "/sandboxes/{sandboxID}/fork", FORK),
    later(Post, "/v3/templates", BUILDS),
    later(Post, "/v2/templates", BUILDS),
    later(Post, "/templates", BUILDS),
    later(Post, "/templates/{templateID}", BUILDS),
    later(Post, "/templates/{templateID}/builds/{buildID}", BUILDS),
    later(Post, "/v2/templates/{templateID}/builds/{buildID}", BUILDS),
    later(Get, "/templates/{templateID}/files/{hash}", BUILDS),
    later(Get, "/templates/{templateID}/builds/{buildID}/status", BUILDS),
    later(Get, "/templates/{templateID}/builds/{buildID}/logs", BUILDS),
    later(Get, "/templates/{templateID}", BUILDS),
    later(Delete, "/templates/{templateID}", TEMPLATES),
    later(Delete, "/templates/{templateID}/{name}", TEMPLATES),
    later(Patch, "/templates/{templateID}", TEMPLATES),
    later(Patch, "/v2/templates/{templateID}", TEMPLATES),
    later(Post, "/templates/tags", TAGS),
    later(Delete, "/templates/tags", TAGS),
    later(Get, "/templates/{templateID}/tags", TAGS),
    later(Get, "/templates/{templateID}/{name}/tags", TAGS),
    later(Get, "/templates/{templateID}/tags/groups", TAGS),
    later(Get, "/templates/{templateID}/tags/exists", TAGS),
    later(Get, "/templates/{templateID}/tags/count", TAGS),
    later(Get, "/templates/{templateID}/tags/{tag}/assignments", TAGS),
    later(Get, "/volumes", VOLUMES),
    later(Post, "/volumes", VOLUMES),
    later(Get, "/volumes/{volumeID}", VOLUMES),
    later(Delete, "/volumes/{volumeID}", VOLUMES),
    foreign(Get, "/volumecontent/{volumeID}/path", VOLUMES),
    foreign(Patch, "/volumecontent/{volumeID}/path", VOLUMES),
    foreign(Delete, "/volumecontent/{volumeID}/path", VOLUMES),
    foreign(Get, "/volumecontent/{volumeID}/dir", VOLUMES),
    foreign(Post, "/volumecontent/{volumeID}/dir", VOLUMES),
    foreign(Get, "/volumecontent/{volumeID}/file", VOLUMES),
    foreign(Put, "/volumecontent/{volumeID}/file", VOLUMES),
    later(Get, "/teams/{teamID}/metrics", TEAM_METRICS),
    later(Get, "/teams/{teamID}/metrics/max", TEAM_METRICS),
    foreign(Post, "/access-tokens", TOKENS),
    foreign(Delete, "/access-tokens/{accessTokenID}", TOKENS),
    foreign(Get, "/nodes", ADMIN),
    foreign(Get, "/nodes/{nodeID}", ADMIN),
    foreign(Post, "/nodes/{nodeID}", ADMIN),
];

/// Adds the routes and their part of the document.
pub fn add(mut router: OpenApiRouter<App>) -> OpenApiRouter<App> {
    for route in ROUTES {
        let (feature, who) = (route.feature, route.who);
        let answer = move |state, parts| not_implemented(state, parts, feature, who);
        router = router.route(route.path, on(filter(&route.method), answer));
        let item = PathItem::new(route.method.clone(), operation(route));
        let paths = &mut router.get_openapi_mut().paths.paths;
        match paths.get_mut(route.path) {
            Some(known) => known.merge_operations(item),
            None => {
                paths.insert(route.path.to_owned(), item);
            }
        }
    }
    router
}

async fn not_implemented(
    State(app): State<App>,
    mut parts: Parts,
    feature: &'static str,
    who: Who,
) -> Problem {
    match check(&app, &mut parts, feature, who).await {
        Ok(()) => Problem::not_implemented(feature),
        Err(problem) => problem,
    }
}

/// Whether the caller may ask, and what is asked of exists.
async fn check(app: &App, parts: &mut Parts, feature: &str, who: Who) -> Result<()> {
    if who == Who::Anybody {
        return Ok(());
    }
    let team = TokenHolder::from_request_parts(parts, app).await?.caller.team;
    let named = RawPathParams::from_request_parts(parts, app).await;
    let named = named.map_err(|_| Problem::invalid("path", "not valid percent-encoded UTF-8"))?;
    let value = |name: &str| named.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
    if let Some(id) = value("sandboxID") {
        app.control.get(team, &sandbox_id(id)?).await?;
    } else if let Some(id) = value("templateID").filter(|_| [TEMPLATES, TAGS].contains(&feature)) {
        // A name in two segments has a namespace, which no template of this server has.
        let name = value("name").map_or_else(|| id.to_owned(), |name| format!("{id}/{name}"));
        let known = template_name(&name).ok().and_then(|name| find(app, team, &name));
        known.ok_or_else(|| Error::not_found("template", name))?;
    }
    Ok(())
}

fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        Post => MethodFilter::POST,
        Put => MethodFilter::PUT,
        Patch => MethodFilter::PATCH,
        Delete => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

fn operation(route: &Later) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .tag("later")
        .summary(Some(format!("Answers 501: {}", route.feature)))
        .responses(
            Problem::responses()
                .into_values()
                .map(|response| ("501", response))
                .collect::<utoipa::openapi::Responses>(),
        );
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(RefOr::T(ObjectBuilder::new().schema_type(Type::String).into())))
                .build(),
        );
    }
    operation
}
