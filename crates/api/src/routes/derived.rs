//! Derived templates: making them, and removing those that nobody needs.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::StatusCode;
use soulbox_image::{
    TemplateState as Build,
    derived::{File, Files, Input, LONGEST, Plan, Step},
};
use soulbox_model::Error;
use soulbox_wire::rest::{
    DerivedFile, DerivedStep, DerivedTemplate, PruneTemplates, PrunedTemplate, TemplateProgress,
};
use tokio::task::spawn_blocking;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::soulbox::{known, progress, started};
use crate::{
    App,
    auth::KeyHolder,
    body::{LargeBody, OptionalBody},
    problem::{Problem, Result},
};

/// Where files go unless the request says.
const TARGET: &str = "/home/user/app";
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
const STEP_TIMEOUT: u64 = 300;
const MAX_FILES: usize = 1000;
const MAX_STEPS: usize = 64;
const MAX_WORDS: usize = 1000;
const MAX_ENV: usize = 256;
const MAX_PATH: usize = 16;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(derive_template)).routes(routes!(prune_templates))
}

/// Make a template that adds a layer to another one, in the background, unless the same is there.
#[utoipa::path(
    post,
    path = "/soulbox/v1/templates",
    tag = "soulbox",
    request_body = DerivedTemplate,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses(
        (status = 200, body = TemplateProgress, description = "It is there already"),
        (status = 202, body = TemplateProgress, description = "It is being built"),
        Problem
    )
)]
async fn derive_template(
    KeyHolder(caller): KeyHolder,
    State(app): State<App>,
    LargeBody { value: wanted, place }: LargeBody<DerivedTemplate>,
) -> Result<(StatusCode, Json<TemplateProgress>)> {
    let watched = wanted.watched;
    let (control, team) = (app.control.clone(), caller.team);
    // Decoding and hashing some MiB of files takes a while.
    let derived = spawn_blocking(move || {
        let name = plan(wanted).and_then(|plan| Ok(control.derive(team, plan)?));
        drop(place);
        name
    });
    let name = derived.await.map_err(|lost| Error::internal("derive", lost))??;
    let status = known(&app, caller.team, &name)?;
    if let Build::Ready(_) = status.state {
        return Ok((StatusCode::OK, Json(progress(status))));
    }
    app.builds.start(app.control.templates(), &name, watched);
    Ok((StatusCode::ACCEPTED, Json(started(status))))
}

/// Remove derived templates that no sandbox stands on and nobody asked for lately.
#[utoipa::path(
    post,
    path = "/soulbox/v1/templates/prune",
    tag = "soulbox",
    request_body = Option<PruneTemplates>,
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = [PrunedTemplate]), Problem)
)]
async fn prune_templates(
    KeyHolder(caller): KeyHolder,
    State(app): State<App>,
    OptionalBody(wanted): OptionalBody<PruneTemplates>,
) -> Result<Json<Vec<PrunedTemplate>>> {
    let unused_for = wanted.unused_for.map_or(WEEK, Duration::from_secs);
    let pruned = app.control.prune_templates(caller.team, unused_for).await?;
    let told = pruned.iter().map(|template| PrunedTemplate {
        name: template.name.clone(),
        template_id: template.id.to_string(),
        size_bytes: template.size_bytes,
    });
    Ok(Json(told.collect()))
}

fn plan(wanted: DerivedTemplate) -> Result<Plan> {
    let target = wanted.target.unwrap_or_else(|| TARGET.to_owned());
    absolute("target", &target)?;
    if let Some(path) = &wanted.workdir {
        absolute("workdir", path)?;
    }
    count("files", wanted.files.len(), MAX_FILES)?;
    count("steps", wanted.steps.len(), MAX_STEPS)?;
    count("env", wanted.env.len(), MAX_ENV)?;
    count("path", wanted.path.len(), MAX_PATH)?;
    for directory in &wanted.path {
        absolute("path", directory)?;
        if directory.contains(':') {
            return Err(Problem::invalid("path", "a directory has no `:`"));
        }
    }
    let within = wanted.timeout.map_or(Ok(LONGEST), |wanted| seconds("timeout", wanted))?;
    let files = wanted.files.into_iter().map(file).collect::<Result<Vec<_>>>()?;
    let input = Input { target: target.clone(), strip: 0, source: Arc::new(Files(files)) };
    let steps = wanted.steps.into_iter().map(|wanted| step(wanted, &target));
    Ok(Plan {
        name: None,
        parent: wanted.parent,
        team: None,
        inputs: vec![input],
        steps: steps.collect::<Result<_>>()?,
        env: wanted.env,
        path: wanted.path,
        workdir: wanted.workdir,
        internet: wanted.internet,
        within,
    })
}

fn file(wanted: DerivedFile) -> Result<File> {
    let inside = !wanted.path.is_empty()
        && wanted.path.len() <= 1000
        && !wanted.path.contains('\0')
        && wanted.path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !inside {
        return Err(Problem::invalid("files", "a path must be relative, without `.` and `..`"));
    }
    let content = BASE64_STANDARD
        .decode(&wanted.content)
        .map_err(|_| Problem::invalid("files", "content must be base64"))?;
    Ok(File { path: wanted.path, mode: wanted.mode.unwrap_or(0o644) & 0o777, content })
}

fn step(wanted: DerivedStep, target: &str) -> Result<Step> {
    count("steps.command", wanted.command.len(), MAX_WORDS)?;
    count("steps.env", wanted.env.len(), MAX_ENV)?;
    if wanted.command.first().is_none_or(String::is_empty) {
        return Err(Problem::invalid("steps.command", "must name a program"));
    }
    let timeout = seconds("steps.timeout", wanted.timeout.unwrap_or(STEP_TIMEOUT))?;
    let cwd = wanted.cwd.unwrap_or_else(|| target.to_owned());
    absolute("steps.cwd", &cwd)?;
    Ok(Step {
        argv: wanted.command,
        user: wanted.user.unwrap_or_else(|| "root".to_owned()),
        env: wanted.env,
        cwd,
        timeout,
        retry: wanted.retry,
    })
}

fn seconds(field: &'static str, wanted: u64) -> Result<Duration> {
    let most = LONGEST.as_secs();
    if (1..=most).contains(&wanted) {
        return Ok(Duration::from_secs(wanted));
    }
    Err(Problem::invalid(field, format!("must be 1 to {most} seconds")))
}

fn absolute(field: &'static str, path: &str) -> Result<()> {
    if path.starts_with('/') && path.len() <= 1000 && !path.contains('\0') {
        return Ok(());
    }
    Err(Problem::invalid(field, "must be an absolute path"))
}

fn count(field: &'static str, count: usize, limit: usize) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(Problem::invalid(field, format!("at most {limit}")))
}
