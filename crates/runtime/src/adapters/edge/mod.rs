//! Edge functions: a request in, a response out, and nothing else of the machine.

use soulbox_image::derived::Plan;

use super::{
    Adapter, BadOption, DIRECTORY, Invocation, Options, Switch,
    packages::{EDGE, WORKERD, input, plan},
};

/// What a function is asked where nobody says.
const REQUEST: &str = "/";
const WORKER: &str = include_str!("workerd.sh");
const FUNCTION: &str = include_str!("function.cjs");

/// Cloudflare's `workerd`: modules with a fetch handler, or service workers.
#[derive(Debug)]
pub(super) struct Workerd;

impl Adapter for Workerd {
    fn name(&self) -> &'static str {
        "cloudflare-workers"
    }

    fn about(&self) -> &'static str {
        "Cloudflare Workers: `export default { fetch }` in workerd, asked once"
    }

    fn template(&self) -> &'static str {
        "workerd"
    }

    fn plan(&self) -> Option<Plan> {
        let install = "chmod 755 /opt/workerd/bin/workerd; \
                       ln -sf /opt/workerd/bin/workerd /usr/local/bin/workerd; workerd --version";
        Some(plan(self.template(), vec![input(WORKERD, "/opt/workerd")], install))
    }

    fn extension(&self) -> &'static str {
        "mjs"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Request]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        no_arguments(self, options)?;
        let request = request(options)?;
        let argv = ["bash", "-c", WORKER, "workerd", entry, request];
        Ok(Invocation { argv: argv.map(str::to_owned).into(), ..Invocation::default() })
    }
}

/// Vercel's `edge-runtime`: functions that take a request and return a response.
#[derive(Debug)]
pub(super) struct EdgeRuntime;

impl Adapter for EdgeRuntime {
    fn name(&self) -> &'static str {
        "vercel-edge"
    }

    fn about(&self) -> &'static str {
        "Vercel Edge: `export default (request) => response` in edge-runtime, asked once"
    }

    fn template(&self) -> &'static str {
        "edge-runtime"
    }

    fn plan(&self) -> Option<Plan> {
        let inputs = EDGE.into_iter().map(|package| {
            let target = format!("/opt/edge-runtime/node_modules/{}", package.name);
            input(package, &target)
        });
        let install = "cli=/opt/edge-runtime/node_modules/edge-runtime/dist/cli/index.js; \
                       chmod 755 $cli; ln -sf $cli /usr/local/bin/edge-runtime; \
                       cd /opt/edge-runtime && node -e 'require(\"edge-runtime\")'";
        Some(plan(self.template(), inputs.collect(), install))
    }

    fn extension(&self) -> &'static str {
        "mjs"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Request]
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        no_arguments(self, options)?;
        let runner = format!("{DIRECTORY}/.soulbox-function.cjs");
        let argv = ["node", &runner, entry, request(options)?].map(str::to_owned);
        let files = vec![(runner, FUNCTION.to_owned())];
        Ok(Invocation { argv: argv.into(), files, ..Invocation::default() })
    }
}

fn no_arguments(adapter: &dyn Adapter, options: &Options) -> Result<(), BadOption> {
    if options.args.is_empty() {
        return Ok(());
    }
    Err(BadOption(format!("{}: a function takes a request, no arguments", adapter.name())))
}

/// The path that is asked for, with its query.
fn request(options: &Options) -> Result<&str, BadOption> {
    let path = options.request.as_deref().unwrap_or(REQUEST);
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if path.starts_with('/') && !path.contains(odd) {
        return Ok(path);
    }
    Err(BadOption(format!("`{path}` is no path of a request: it begins with /")))
}
