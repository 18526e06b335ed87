//! `soulbox exec`.

use std::{path::PathBuf, time::Duration};

use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser},
};
use soulbox_runtime::adapters::{self, Grant, Jsc, Limits, Options, Page, Permissions};

use super::{artifact::Pattern, cores, duration, key_value, memory, size};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  soulbox exec --runtime python -e 'print(6 * 7)'
  soulbox exec --runtime python --with requests fetch.py
  soulbox exec --runtime python --memory 2GiB --cpu 500m --cwd /tmp train.py
  soulbox exec --runtime deno --allow-net=example.org main.ts -- --verbose
  echo 'console.log(process.version)' | soulbox exec --runtime node -
  soulbox exec --runtime cloudflare-workers --request '/hello?name=you' worker.mjs
  soulbox exec --runtime browser --screenshot page.png --dom page.html
  soulbox exec --runtime python --artifact 'plots/*.png' --artifacts-to out plot.py
  soulbox exec -- ls -la                in the project that is up in this directory
  soulbox exec -t -- bash
  soulbox exec --runtime bun --json -e 'console.log(Bun.version)' | jq .duration_ms

The first use of a runtime builds its template, which takes a download; later ones find it. \
With --json it prints one object; without --runtime exit_code, status, stdout, stderr and truncated; with it runtime, exit_code, status (exited, timeout, oom or killed), stdout, stderr, \
stdout_truncated, stderr_truncated, duration_ms, cpu_ms and peak_memory_bytes of the whole sandbox, diagnosis, \
artifacts (each with name, size, media_type and truncated), artifacts_left_out, dom, dom_truncated, and incomplete: \
why some of these are missing.

Exit codes: the program's own; 124 after --timeout; 137 when it ran out of memory; 2 for an option that the \
runtime does not take; others as for every command.")]
pub struct Exec {
    /// What runs the code.
    #[arg(short, long, value_name = "RUNTIME")]
    #[arg(value_parser = PossibleValuesParser::new(adapters::all().iter().map(|adapter| {
PossibleValue::new(adapter.name()).aliases(adapters::alias(*adapter))
    })))]
    pub runtime: Option<String>,
    /// File with the code, or - for standard input.
    #[arg(value_name = "FILE")]
    pub file: Option<String>,
    /// The code itself.
    #[arg(short, long, value_name = "CODE", conflicts_with = "file", requires = "runtime")]
    pub eval: Option<String>,
    /// For the program; without --runtime the command itself.
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
    /// Directory of the project that is up; only without --runtime.
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", conflicts_with = "runtime")]
    pub project: PathBuf,
    /// Give the command a terminal; only without --runtime.
    #[arg(short, long, conflicts_with = "runtime")]
    pub tty: bool,
    /// How long it may run; 0 is no limit. Without it 60 s with --runtime, and as long as the project is up otherwise.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub timeout: Option<Duration>,
    /// Package that the code needs, installed before by pip, npm or bun and kept; may be repeated.
    #[arg(long, value_name = "PACKAGE", requires = "runtime")]
    pub with: Vec<String>,
    /// Variable of the program; may be repeated.
    #[arg(long, value_parser = key_value, value_name = "KEY=VALUE")]
    pub env: Vec<(String, String)>,
    /// Directory inside where the program runs: a path from /home/user.
    #[arg(long, value_name = "DIR", requires = "runtime")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub cwd: Option<String>,
    /// Memory of its sandbox, as 512MB or 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = memory, requires = "runtime")]
    pub memory: Option<u64>,
    /// Processors of its sandbox: whole ones, as 2, or thousandths, as 500m.
    #[arg(long, value_name = "CORES", value_parser = cores, requires = "runtime")]
    pub cpu: Option<u32>,
    /// File that the program makes, directory with all below it, or pattern with * and ? in names; relative
    /// to where it runs. May be repeated.
    #[arg(long = "artifact", value_name = "PATH", value_parser = Pattern::parse, requires = "runtime")]
    pub artifacts: Vec<Pattern>,
    /// Directory that copies of the artifacts are put into.
    #[arg(long, value_name = "DIR", requires = "artifacts")]
    pub artifacts_to: Option<PathBuf>,
    /// Path that an edge function is asked for.
    #[arg(long, value_name = "PATH", help_heading = "Edge functions")]
    pub request: Option<String>,
    #[command(flatten)]
    pub deno: Deno,
    #[command(flatten)]
    pub bun: Bun,
    #[command(flatten)]
    pub browser: Browser,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Browser")]
pub struct Browser {
    /// Print the page's HTML as it is at the end.
    #[arg(long)]
    pub dom: bool,
    /// File that a PNG of the page is written to.
    #[arg(long, value_name = "FILE")]
    pub screenshot: Option<PathBuf>,
    /// Size of the page in pixels, as 1280x720.
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<(u32, u32)>,
    /// Expression that must be true before the page is at its end.
    #[arg(long, value_name = "EXPRESSION")]
    pub until: Option<String>,
}

/// Without a value: all of that kind.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Deno")]
pub struct Deno {
    /// Hosts that may be reached, as a,b:443; all without a list. For pages without ports.
    #[arg(long, value_name = "HOSTS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "", value_parser = Grant::parse)]
    pub allow_net: Option<Grant>,
    /// Paths that may be read; all without a list.
    #[arg(long, value_name = "PATHS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "", value_parser = Grant::parse)]
    pub allow_read: Option<Grant>,
    /// Paths that may be written; all without a list.
    #[arg(long, value_name = "PATHS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "", value_parser = Grant::parse)]
    pub allow_write: Option<Grant>,
    /// Variables that may be read; all without a list.
    #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "", value_parser = Grant::parse)]
    pub allow_env: Option<Grant>,
    /// Programs that may be run; all without a list.
    #[arg(long, value_name = "PROGRAMS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "", value_parser = Grant::parse)]
    pub allow_run: Option<Grant>,
    /// Feature to turn on, as `kv`; may be repeated.
    #[arg(long, value_name = "FEATURE")]
    pub unstable: Vec<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bun")]
pub struct Bun {
    /// Less memory for more time.
    #[arg(long)]
    pub smol: bool,
    /// Memory that the engine believes to have, in MiB.
    #[arg(long, value_name = "MiB")]
    pub jsc_heap: Option<u32>,
    /// Interpret, and never compile.
    #[arg(long)]
    pub jsc_no_jit: bool,
}

/// Code without an end shall not run for ever.
const TIME_LIMIT: Duration = Duration::from_secs(60);

impl Exec {
    /// How long code may run in a runtime; `None` is no limit.
    pub fn time_limit(&self) -> Option<Duration> {
        Some(self.timeout.unwrap_or(TIME_LIMIT)).filter(|limit| !limit.is_zero())
    }

    /// As the adapters take them.
    pub fn options(&self) -> Options {
        let grant = |grant: &Option<Grant>| grant.clone().unwrap_or_default();
        let Deno { allow_net, allow_read, allow_write, allow_env, allow_run, unstable } =
            &self.deno;
        Options {
            args: self.args.clone(),
            cwd: self.cwd.clone(),
            limits: Limits { cpu_millis: self.cpu, memory_bytes: self.memory },
            permissions: Permissions {
                net: grant(allow_net),
                read: grant(allow_read),
                write: grant(allow_write),
                env: grant(allow_env),
                run: grant(allow_run),
            },
            unstable: unstable.clone(),
            jsc: Jsc {
                heap_bytes: self.bun.jsc_heap.map(|mib| u64::from(mib) << 20),
                jit: self.bun.jsc_no_jit.then_some(false),
            },
            small: self.bun.smol,
            request: self.request.clone(),
            page: Page {
                dom: self.browser.dom,
                screenshot: self.browser.screenshot.is_some(),
                size: self.browser.size,
                until: self.browser.until.clone(),
            },
        }
    }
}
