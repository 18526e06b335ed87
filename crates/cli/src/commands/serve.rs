//! `soulbox serve`: the words and signals around the server.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::serve::Serve,
    failure::{Failure, Result},
    output::{Output, Tone},
    server::{Stack, notify},
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, args: Serve) -> Result<()> {
    let listen = |kind| signal(kind).map_err(Failure::io("signals"));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    raise_file_limit();

    let stack = tokio::select! {
        stack = Stack::open(settings, &args) => stack?,
        _ = interrupt.recv() => return Err(Failure::Interrupted),
        _ = terminate.recv() => return Err(Failure::Exit(143)),
    };
    banner(settings, &stack)?;
    notify("READY=1");
    let shutdown = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        notify("STOPPING=1");
        let sandboxes = if args.kill_sandboxes { "ended" } else { "left alive" };
        tracing::info!(sandboxes, "stopping; a second signal stops at once");
    };
    let ended = stack.run(args.kill_sandboxes, shutdown, async || hangup.recv().await);
    let again = async {
        // The first one is for `shutdown`.
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(Failure::Interrupted)
    };
    tokio::select! {
        ended = ended => ended,
        interrupted = again => interrupted,
    }
}

/// Each sandbox and each connection takes descriptors.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files stays");
    }
}

fn banner(settings: &Settings, stack: &Stack) -> Result<()> {
    let output = &settings.output;
    let said = stack.announcement();
    let key_file = settings.data_dir.api_key();
    if output.json {
        return output.value(&serde_json::json!({
            "url": said.url,
            "domain": said.domain,
            "pid": said.pid,
            "api_key_file": key_file,
            "ca": said.ca,
        }));
    }
    let strong = |text: &str| output.tint(Tone::Strong, text);
    output.line(format!("SoulBox {} serves at {}", said.version, strong(&said.url)))?;
    let made = if stack.made_key { ", made just now" } else { "" };
    output.line(format!("  API key   {}{made}", key_file.display()))?;
    if let Some(authority) = stack.new_authority() {
        output.line(format!(
            "  TLS       trust the new authority on this machine with\n            \
             cp {} /usr/local/share/ca-certificates/soulbox.crt && update-ca-certificates",
            authority.display()
        ))?;
    }
    let here = data_dir_flag(settings);
    output.line("Next, in another shell:")?;
    output.line(format!("  eval \"$(soulbox env{here})\"      for the E2B SDKs"))?;
    output.line(format!("  soulbox sandbox create{here} --template host"))?;
    hint_about_wildcards(output, said)
}

/// What a command must be told to find this server.
fn data_dir_flag(settings: &Settings) -> String {
    let path = settings.data_dir.path();
    if path == std::path::Path::new(crate::args::DEFAULT_DATA_DIR) {
        String::new()
    } else {
        format!(" --data-dir {}", path.display())
    }
}

fn hint_about_wildcards(output: &Output, said: &crate::data_dir::Announcement) -> Result<()> {
    if said.domain.starts_with("localhost:") {
        return Ok(());
    }
    output.line(format!("Ports of sandboxes need a DNS record for *.{}", said.domain))
}
