//! `soulbox doctor`: what this machine can do, and with `--attack`, what it withstands.

mod attack;
mod stranger;

use std::{io, net::TcpListener, path::Path, process::Command};

use serde::Serialize;
use soulbox_engine::{Check, CheckStatus};

use crate::{
    args::Doctor,
    failure::{Failure, Result},
    output::{Output, Tone, bytes, plain},
    settings::Settings,
};

/// Below it a template and a few sandboxes do not fit.
const ENOUGH_SPACE: u64 = 4 << 30;

pub(super) async fn run(settings: &Settings, args: Doctor) -> Result<()> {
    if args.attack {
        return attack::run(settings, args).await;
    }
    let owned = settings.clone();
    let checks = tokio::task::spawn_blocking(move || {
        let mut checks = soulbox_engine_native::doctor::checks(owned.data_dir.path());
        checks.extend([data_dir(&owned), space(&owned), listener(&owned), base(&owned)]);
        checks
    })
    .await
    .map_err(|error| Failure::io("doctor")(io::Error::other(error)))?;
    show(&settings.output, &checks)?;
    if checks.iter().any(|check| check.status == CheckStatus::Missing) {
        return Err(Failure::Exit(1));
    }
    Ok(())
}

fn show(output: &Output, checks: &[Check]) -> Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        /// Whether `soulbox serve` can make sandboxes here.
        ready: bool,
        checks: &'a [Check],
    }
    let ready = checks.iter().all(|check| check.status != CheckStatus::Missing);
    if output.json {
        return output.value(&Report { ready, checks });
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in checks {
        let mark = match check.status {
            CheckStatus::Ok => output.tint(Tone::Good, "ok      "),
            CheckStatus::Degraded => output.tint(Tone::Warning, "degraded"),
            CheckStatus::Missing => output.tint(Tone::Bad, "missing "),
        };
        output.line(format!("{mark}  {:width$}  {}", check.name, plain(&check.detail)))?;
        if let Some(advice) = &check.advice {
            output.line(format!("{:width$}  → {advice}", "", width = width + 10))?;
        }
    }
    let verdict = if ready {
        output.tint(Tone::Good, "This machine can run sandboxes.")
    } else {
        output.tint(Tone::Bad, "No sandbox can be made here yet: see → above.")
    };
    output.line(format!("\n{verdict}"))
}

fn check(name: &str, status: CheckStatus, detail: String, advice: &str) -> Check {
    let advice = (status != CheckStatus::Ok).then(|| advice.to_owned());
    Check { name: name.to_owned(), status, detail, advice }
}

fn data_dir(settings: &Settings) -> Check {
    const NAME: &str = "data directory";
    let path = settings.data_dir.path();
    let shown = path.display();
    let writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    if path.is_dir() {
        if let Ok(Some(said)) = settings.data_dir.announcement()
            && Path::new("/proc").join(said.pid.to_string()).exists()
        {
            let detail = format!("{shown}: a server runs on it at {}", said.url);
            return check(NAME, CheckStatus::Ok, detail, "");
        }
        if writable(path) {
            return check(NAME, CheckStatus::Ok, format!("{shown}"), "");
        }
    } else if path.ancestors().find(|path| path.exists()).is_some_and(writable) {
        return check(NAME, CheckStatus::Ok, format!("{shown}: the first start makes it"), "");
    }
    let advice = "run as root, or choose another one with --data-dir";
    check(NAME, CheckStatus::Missing, format!("{shown}: can't be written"), advice)
}

fn space(settings: &Settings) -> Check {
    const NAME: &str = "free space";
    let path = settings.data_dir.path();
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let status = if free >= ENOUGH_SPACE { CheckStatus::Ok } else { CheckStatus::Degraded };
            let detail = format!("{} at {}", bytes(free), existing.display());
            check(NAME, status, detail, "free at least 4 GiB, or choose another --data-dir")
        }
        Err(error) => {
            let detail = format!("{}: {error}", existing.display());
            check(NAME, CheckStatus::Degraded, detail, "check the file system")
        }
    }
}

fn listener(settings: &Settings) -> Check {
    const NAME: &str = "listener";
    let address = settings.listen;
    match TcpListener::bind(address) {
        Ok(_) => check(NAME, CheckStatus::Ok, format!("{address} is free"), ""),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let ours = matches!(settings.data_dir.announcement(),
                Ok(Some(said)) if said.url.ends_with(&format!(":{}", address.port())));
            if ours {
                return check(NAME, CheckStatus::Ok, format!("{address}: the running server"), "");
            }
            let advice = "end the program that listens there, or choose another --listen";
            check(NAME, CheckStatus::Missing, format!("{address} is in use"), advice)
        }
        Err(error) => {
            let advice = "choose an address of this machine with --listen";
            check(NAME, CheckStatus::Missing, format!("{address}: {error}"), advice)
        }
    }
}

/// The `base` template, or what it takes to make it.
fn base(settings: &Settings) -> Check {
    const NAME: &str = "base template";
    let dir = settings.data_dir.path().join("store/templates");
    let built = std::fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("base") && entry.path().join("meta.json").exists()
    });
    if built {
        return check(NAME, CheckStatus::Ok, "ready".into(), "");
    }
    match Command::new("mmdebstrap").arg("--version").output() {
        Ok(output) => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let detail = format!("{version}: the server builds it in the background");
            check(NAME, CheckStatus::Ok, detail, "")
        }
        Err(_) => check(
            NAME,
            CheckStatus::Degraded,
            "mmdebstrap not found: only the `host` template can be used".into(),
            "apt-get install mmdebstrap",
        ),
    }
}
