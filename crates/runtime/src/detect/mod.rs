//! Which runtime a directory is for.

use serde::Serialize;

/// What runs a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    Bun,
    Deno,
    Node,
    Python,
    /// Cloudflare Workers, by `workerd`.
    CloudflareWorkers,
    /// Vercel Edge, by `edge-runtime`.
    VercelEdge,
    /// Deno Deploy: deno without a file system.
    DenoDeploy,
    /// A page in headless Chromium.
    Browser,
}
