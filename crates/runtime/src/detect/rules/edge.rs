//! The edge: Cloudflare Workers, Deno Deploy, Vercel Edge.

use serde_json::Value;

use super::{Folder, found, source};
use crate::detect::{
    Evidence, Runtime,
    manifest::{calls, toml_text},
};

const WRANGLER: [&str; 3] = ["wrangler.toml", "wrangler.json", "wrangler.jsonc"];

pub(super) fn workers(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    for file in WRANGLER.into_iter().filter(|file| folder.has(file)) {
        all.push(found(Runtime::CloudflareWorkers, file, "configuration of wrangler"));
    }
}

pub(super) fn compatibility_date(folder: &Folder<'_>) -> Option<String> {
    let file = folder.first(&WRANGLER)?;
    if file == "wrangler.toml" {
        return toml_text(&folder.text(file)?, &["compatibility_date"]);
    }
    folder.json(file)?.get("compatibility_date")?.as_str().map(str::to_owned)
}

pub(super) fn deno_deploy(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    let Some((file, Some(config))) = folder.deno() else { return };
    if config.get("deploy").is_some() {
        all.push(found(Runtime::DenoDeploy, file, "has the key `deploy`"));
    }
    let tasks = config.get("tasks").and_then(Value::as_object);
    let calling = tasks.into_iter().flatten().find(|(_, task)| {
        let line = task.as_str().or_else(|| task.get("command")?.as_str());
        line.is_some_and(|line| calls(line, "deployctl"))
    });
    if let Some((name, _)) = calling {
        let name: String = name.chars().take(64).collect();
        all.push(found(Runtime::DenoDeploy, file, format!("task `{name}` calls deployctl")));
    }
}

pub(super) fn vercel(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    let functions = folder.json("vercel.json").and_then(|config| config.get("functions").cloned());
    let edge = functions.as_ref().and_then(Value::as_object).and_then(|functions| {
        functions.iter().find(|(_, function)| {
            function.get("runtime").and_then(Value::as_str).is_some_and(is_edge)
        })
    });
    if let Some((name, _)) = edge {
        let name: String = name.chars().take(64).collect();
        all.push(found(
            Runtime::VercelEdge,
            "vercel.json",
            format!("`{name}` is an edge function"),
        ));
    }
    let places = ["", "src", "app", "pages", "api", "src/app", "src/pages"];
    let routes = folder.tree.sources_below(folder.path, &places, source::is_route);
    for file in routes.into_iter().take(source::MAX_FILES) {
        let Some(text) = folder.tree.text(&file, source::MAX_BYTES) else { continue };
        if source::exports_edge(&text) {
            all.push(found(Runtime::VercelEdge, &file, "exports `runtime = \"edge\"`"));
            break;
        }
    }
}

fn is_edge(runtime: &str) -> bool {
    matches!(runtime, "edge" | "experimental-edge")
}
