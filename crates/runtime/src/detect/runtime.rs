//! The runtimes by name.

use std::fmt;

use serde::Serialize;

/// What runs a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Cloudflare Workers, by `workerd`.
    CloudflareWorkers,
    /// Deno Deploy: deno without a file system.
    DenoDeploy,
    /// Vercel Edge, by `edge-runtime`.
    VercelEdge,
    Bun,
    Deno,
    /// A page in headless Chromium.
    Browser,
    Node,
    Python,
}

impl Runtime {
    /// All of them, the ones first that win over others: whoever says `wrangler.toml` means Workers,
    /// whatever else lies there.
    pub const ALL: [Self; 8] = [
        Self::CloudflareWorkers,
        Self::DenoDeploy,
        Self::VercelEdge,
        Self::Bun,
        Self::Deno,
        Self::Browser,
        Self::Node,
        Self::Python,
    ];

    /// As flags and JSON have it.
    pub fn id(self) -> &'static str {
        match self {
            Self::CloudflareWorkers => "cloudflare-workers",
            Self::DenoDeploy => "deno-deploy",
            Self::VercelEdge => "vercel-edge",
            Self::Bun => "bun",
            Self::Deno => "deno",
            Self::Browser => "browser",
            Self::Node => "node",
            Self::Python => "python",
        }
    }

    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.id() == id)
    }

    /// The program that runs it.
    pub fn program(self) -> &'static str {
        match self {
            Self::CloudflareWorkers => "workerd",
            Self::DenoDeploy | Self::Deno => "deno",
            Self::VercelEdge => "edge-runtime",
            Self::Bun => "bun",
            Self::Browser => "chromium",
            Self::Node => "node",
            Self::Python => "python3",
        }
    }

    /// The template that has it.
    pub fn template(self) -> &'static str {
        match self {
            Self::CloudflareWorkers => "workerd",
            Self::DenoDeploy | Self::Deno => "deno",
            Self::VercelEdge => "edge-runtime",
            Self::Bun => "bun",
            Self::Browser => "browser",
            Self::Node | Self::Python => "base",
        }
    }

    /// What it is found by, strongest first.
    pub fn found_by(self) -> &'static str {
        match self {
            Self::CloudflareWorkers => "wrangler.toml, wrangler.json(c)",
            Self::DenoDeploy => "`deploy` in deno.json, a task that calls deployctl",
            Self::VercelEdge => {
                "vercel.json with edge functions, a route that exports runtime = \"edge\""
            }
            Self::Bun => "bun.lock, bun.lockb, bunfig.toml, packageManager, engines, scripts",
            Self::Deno => "deno.json(c), deno.lock, engines, jsr: and npm: imports",
            Self::Browser => "index.html with module scripts or a bundler, and no server",
            Self::Node => "package.json, and none of the above",
            Self::Python => "pyproject.toml, requirements*.txt, Pipfile, uv.lock, *.py",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CloudflareWorkers => "Cloudflare Workers",
            Self::DenoDeploy => "Deno Deploy",
            Self::VercelEdge => "Vercel Edge",
            Self::Bun => "Bun",
            Self::Deno => "Deno",
            Self::Browser => "Browser",
            Self::Node => "Node",
            Self::Python => "Python",
        })
    }
}
