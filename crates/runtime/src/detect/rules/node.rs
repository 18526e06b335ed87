//! Node: `package.json`, where nothing says otherwise.

use super::{Folder, found};
use crate::detect::{Evidence, Runtime, manifest::calls};

/// Packages that listen.
const SERVERS: [&str; 14] = [
    "express",
    "fastify",
    "koa",
    "@hapi/hapi",
    "hono",
    "next",
    "nuxt",
    "@nestjs/core",
    "restify",
    "polka",
    "@remix-run/node",
    "@sveltejs/adapter-node",
    "socket.io",
    "ws",
];

/// Files that a server begins with.
const ENTRIES: [&str; 6] =
    ["server.js", "server.mjs", "server.ts", "app.js", "src/server.js", "src/server.ts"];

pub(super) fn evidence(folder: &Folder<'_>, all: &mut Vec<Evidence>) {
    if folder.has("package.json") {
        all.push(found(Runtime::Node, "package.json", "manifest of a package"));
    }
}

pub(super) fn version(folder: &Folder<'_>) -> Option<String> {
    let pinned = folder.first(&[".nvmrc", ".node-version"]);
    let pinned = pinned.and_then(|name| folder.text(name)).map(|text| text.to_string());
    pinned.or_else(|| folder.package()?.engine("node").map(str::to_owned))
}

/// Whether a server is started.
pub(super) fn serves(folder: &Folder<'_>) -> bool {
    let entry = folder.first(&ENTRIES).is_some();
    let package = folder.package();
    entry
        || package.is_some_and(|package| {
            SERVERS.iter().any(|name| package.depends(name))
                || package.script("start").is_some_and(|line| calls(line, "node"))
        })
}

/// Whether something is started at all: a script, a program, an entry.
pub(super) fn starts(folder: &Folder<'_>) -> bool {
    let package = folder.package();
    folder.first(&["index.js", "index.mjs", "index.ts"]).is_some()
        || serves(folder)
        || package.is_some_and(|package| {
            package.script("start").is_some() || package.has("main") || package.has("bin")
        })
}
