//! `soulbox template …`.

use std::time::Duration;

use chrono::Utc;
use soulbox_wire::rest::{TemplateProgress, TemplateState};

use crate::{
    args::Template,
    client::{Server, locate},
    failure::{Failure, Result},
    output::{Output, bytes, plain},
    progress::Step,
    settings::Settings,
};

const POLL: Duration = Duration::from_millis(300);

pub(super) async fn run(settings: &Settings, command: Template) -> Result<()> {
    let server = locate(settings)?;
    match command {
        Template::List => list(&server, &settings.output).await,
        Template::Build { name } => build(&server, &settings.output, &name).await,
        Template::Stop { name } => {
            server.stop_build(&name).await?;
            match settings.output.json {
                true => {
                    settings.output.value(&serde_json::json!({ "name": name, "stopped": true }))
                }
                false => {
                    settings.output.note(format!("{} is stopped", plain(&name)));
                    Ok(())
                }
            }
        }
        Template::Prune { unused_for } => prune(&server, &settings.output, unused_for).await,
    }
}

async fn list(server: &Server, output: &Output) -> Result<()> {
    let templates = server.templates().await?;
    if output.json {
        return output.value(&templates);
    }
    let rows = templates
        .iter()
        .map(|template| {
            vec![
                plain(&template.name),
                template.template_id.as_deref().map(plain).unwrap_or_default(),
                state(template),
                template.parent.as_deref().map(plain).unwrap_or_default(),
                template.size_bytes.map(bytes).unwrap_or_default(),
                template
                    .created_at
                    .map(|time| time.format("%Y-%m-%d %H:%M:%SZ").to_string())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    output.table(&["NAME", "ID", "STATE", "PARENT", "SIZE", "CREATED"], rows)
}

async fn prune(server: &Server, output: &Output, unused_for: Duration) -> Result<()> {
    let pruned = server.prune_templates(unused_for).await?;
    if output.json {
        return output.value(&pruned);
    }
    for template in &pruned {
        output.line(format!("{}  {}", plain(&template.name), bytes(template.size_bytes)))?;
    }
    let total = pruned.iter().map(|template| template.size_bytes).sum();
    output.note(format!("{} templates removed, {}", pruned.len(), bytes(total)));
    Ok(())
}

fn state(template: &TemplateProgress) -> String {
    match template.state {
        TemplateState::Ready => "ready".to_owned(),
        TemplateState::Building => {
            let step = plain(template.step.as_deref().unwrap_or_default());
            let since =
                template.building_since.map(|since| (Utc::now() - since).num_seconds().max(0));
            let age = since.map(|seconds| format!(" for {seconds} s")).unwrap_or_default();
            format!("building{age}: {} %, {step}", template.percent.unwrap_or(0))
        }
        TemplateState::Missing => "missing".to_owned(),
        TemplateState::Failed => {
            // One line of it; `template build` tells the rest.
            let error = template.error.as_deref().unwrap_or_default();
            format!("failed: {}", plain(error.lines().next().unwrap_or_default()))
        }
    }
}

/// Builds a template unless it is there, and shows how far that is.
///
/// # Errors
/// Why it could not be built.
pub(super) async fn ensure(server: &Server, output: &Output, name: &str) -> Result<()> {
    let now = server.build_template(name).await?;
    let now = follow(server, output, now, &format!("building {name}")).await?;
    if now.state == TemplateState::Ready { Ok(()) } else { Err(unbuilt(name, &now)) }
}

fn unbuilt(name: &str, now: &TemplateProgress) -> Failure {
    Failure::Environment {
        message: format!(
            "template {name} was not built: {}",
            plain(now.error.as_deref().unwrap_or("the build was stopped"))
        ),
        hint: "the server's log says more; the same command starts afresh".into(),
    }
}

async fn build(server: &Server, output: &Output, name: &str) -> Result<()> {
    let now = server.build_template(name).await?;
    let now = follow(server, output, now, &format!("building {name}")).await?;
    match now.state {
        TemplateState::Ready if output.json => output.value(&now),
        TemplateState::Ready => output.line(plain(now.template_id.as_deref().unwrap_or(name))),
        _ => Err(unbuilt(name, &now)),
    }
}

/// Shows a build, which does `what`, until it is over, and returns how it ended.
pub(super) async fn follow(
    server: &Server,
    output: &Output,
    mut now: TemplateProgress,
    what: &str,
) -> Result<TemplateProgress> {
    let what = plain(what);
    let step = Step::count(output, 100, what.clone());
    let mut said = None;
    while now.state == TemplateState::Building {
        step.at(u64::from(now.percent.unwrap_or(0)));
        if now.step != said {
            said.clone_from(&now.step);
            let doing = plain(said.as_deref().unwrap_or("starting"));
            step.say(format!("{what}: {doing}"));
        }
        tokio::time::sleep(POLL).await;
        now = server.template(&now.name).await?;
    }
    Ok(now)
}
