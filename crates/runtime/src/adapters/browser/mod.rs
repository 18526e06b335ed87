//! Headless Chromium: a page, or a script in an empty one.

use std::sync::Arc;

use soulbox_image::{
    derived::{File, Files, Input, Plan},
    registry::Debian,
};

use super::{
    Adapter, BadOption, DIRECTORY, Diagnosis, Grant, Invocation, Options, Page, Results, Switch,
    packages::plan,
};

/// Without what it opens links and finds screens with, which is half of what it would bring along; with
/// what adds to the authorities that it trusts.
const CHROMIUM: Debian = Debian {
    packages: &["chromium-headless-shell", "libnss3-tools"],
    without: &["x11-utils", "xdg-utils"],
};
const PACKAGES: &str = "/var/tmp/soulbox-packages";
const INSTALL: &str = include_str!("install.sh");
/// Drives it, and is there for projects too.
const DRIVER: &str = include_str!("page.mjs");
const DRIVER_DIRECTORY: &str = "/opt/soulbox-page";
const PROGRAM: &str = "soulbox-page";
/// Of the sandbox: Chromium takes half of it before it has shown anything.
const MEMORY: u64 = 1 << 30;
/// Pixels of a side.
const MAX_SIDE: u32 = 8192;

#[derive(Debug)]
pub(super) struct Browser;

impl Adapter for Browser {
    fn name(&self) -> &'static str {
        "browser"
    }

    fn about(&self) -> &'static str {
        "headless Chromium: a page, or a script in an empty one; console, DOM and screenshot"
    }

    fn plan(&self) -> Option<Plan> {
        let driver =
            File { path: "page.mjs".to_owned(), mode: 0o755, content: DRIVER.as_bytes().to_vec() };
        let driver = Arc::new(Files(vec![driver]));
        let inputs = vec![
            Input { target: PACKAGES.to_owned(), strip: 0, source: Arc::new(CHROMIUM) },
            Input { target: DRIVER_DIRECTORY.to_owned(), strip: 0, source: driver },
        ];
        Some(plan(self.name(), inputs, INSTALL))
    }

    fn extension(&self) -> &'static str {
        "mjs"
    }

    fn understands(&self) -> &'static [Switch] {
        &[Switch::Net, Switch::Page]
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(MEMORY)
    }

    fn reach(&self, options: &Options) -> Option<Grant> {
        Some(options.permissions.net.clone())
    }

    fn invocation(&self, options: &Options, entry: &str) -> Result<Invocation, BadOption> {
        if !options.args.is_empty() {
            return Err(BadOption("browser: a page takes no arguments".to_owned()));
        }
        let Page { dom, screenshot, size, until } = &options.page;
        let mut argv = vec![PROGRAM.to_owned()];
        let mut option = |name: &str, value: String| argv.push(format!("--{name}={value}"));
        let results = Results {
            dom: dom.then(|| format!("{DIRECTORY}/.soulbox-dom.html")),
            screenshot: screenshot.then(|| format!("{DIRECTORY}/.soulbox-screenshot.png")),
        };
        if let Some(path) = &results.dom {
            option("dom", path.clone());
        }
        if let Some(path) = &results.screenshot {
            option("screenshot", path.clone());
        }
        if let Some((width, height)) = *size {
            if ![width, height].iter().all(|side| (1..=MAX_SIDE).contains(side)) {
                let text = format!("{width}x{height}: a side has 1 to {MAX_SIDE} pixels");
                return Err(BadOption(text));
            }
            option("size", format!("{width}x{height}"));
        }
        if let Some(expression) = until {
            option("until", expression.clone());
        }
        argv.push(entry.to_owned());
        Ok(Invocation { argv, results, ..Invocation::default() })
    }

    fn diagnose(&self, stderr: &str) -> Option<Diagnosis> {
        let said = stderr.lines().rev().find_map(|line| line.strip_prefix("soulbox: "));
        if let Some(message) = said {
            let kind = if message.contains("crashed") { "page-crashed" } else { "page-failed" };
            return Some(Diagnosis {
                kind,
                message: message.chars().take(500).collect(),
                advice: "pages reach nothing outside unless --allow-net lets them".to_owned(),
            });
        }
        let message = stderr.lines().find(|line| line.starts_with("Uncaught "))?;
        Some(Diagnosis {
            kind: "uncaught-exception",
            message: message.chars().take(500).collect(),
            advice: "catch it, or mend the script".to_owned(),
        })
    }
}
