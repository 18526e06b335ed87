//! A sandbox with a copy of the project in it.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use soulbox_model::{Port, SandboxId};
use soulbox_spec::{Commands, Project};
use soulbox_wire::rest::ListedSandbox;

use super::{
    id_of,
    install::{self, Installed},
    load::{DOMAINS, Loaded, NAME, PORTS, READ_ONLY, by_key},
    ready,
};
use crate::{
    args::run::Overrides,
    client::{Remote, Server, process::Config, remote::Launch},
    commands::sandbox::{
        archive, lifecycle,
        session::{self, Input, Interrupts},
    },
    failure::{Failure, Result},
    output::{Output, plain},
    progress::Step,
};

/// Where a project lies inside.
const APP: &str = soulbox_runtime::dependencies::PROJECT;
/// The same where nothing but memory can be written.
const APP_IN_MEMORY: &str = "/tmp/app";
const MODULES: &str = "node_modules";
/// Makes the directories of packages in `$0` appear in `$1`, entry by entry: what leads elsewhere, to a part of the
/// project for one, leads to the same place from there; what does not is where it was installed.
const MIRROR: &str = r#"
mirror() {
  mkdir -p "$2" &&
    find "$1" -mindepth 1 -maxdepth 1 -type l -exec cp -P -t "$2" {} + &&
    find "$1" -mindepth 1 -maxdepth 1 ! -type l ! -name '@*' ! -name .bin -exec ln -s -t "$2" {} +
}
from=$0 to=$1
shift
for modules do
  [ -d "$from/$modules" ] || continue
  mirror "$from/$modules" "$to/$modules" || exit
  for part in "$from/$modules"/@* "$from/$modules/.bin"; do
    [ -L "$part" ] || [ ! -d "$part" ] || mirror "$part" "$to/$modules/${part##*/}" || exit
  done
done
"#;
/// What a program that cannot start needs to say so.
const MOMENT: Duration = Duration::from_millis(500);
/// What a directory has that a program does not need.
const LEFT_OUT: [&str; 1] = [".git"];

/// A project's sandbox, before its first command.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) id: SandboxId,
    pub(super) remote: Remote,
    /// Where the project lies inside.
    pub(super) app: &'static str,
    domain: Option<String>,
    began: Instant,
}

fn app_of(project: &Project) -> &'static str {
    if project.security.read_only { APP_IN_MEMORY } else { APP }
}

/// Where the project of a sandbox lies inside, as its labels say.
pub(super) fn app_in(sandbox: &ListedSandbox) -> &'static str {
    match sandbox.metadata.get(READ_ONLY) {
        Some(_) => APP_IN_MEMORY,
        None => APP,
    }
}

/// The ports of a project that have URLs, as its labels say.
fn ports_in(sandbox: &ListedSandbox) -> impl Iterator<Item = Port> {
    let ports = sandbox.metadata.get(PORTS).map(String::as_str).unwrap_or_default();
    ports.split(',').filter_map(|port| port.parse().ok())
}

#[derive(Serialize)]
struct Told<'a> {
    project: &'a str,
    sandbox_id: String,
    urls: Vec<String>,
    /// From the first request on; absent for what was up before.
    ready_ms: Option<f64>,
}

impl Started {
    /// Makes the sandbox, with its template where that has to be built, and copies the project in.
    ///
    /// # Errors
    /// What went wrong; nothing is left then.
    pub(super) async fn make(
        server: &Server,
        output: &Output,
        loaded: &Loaded,
        overrides: &Overrides,
        interrupts: &Interrupts,
    ) -> Result<Self> {
        let began = Instant::now();
        let installed = interrupts.or(install::all(server, output, loaded, overrides)).await?;
        let new = loaded.sandbox(installed.template.clone())?;
        let made = lifecycle::make(server, output, &new, true, interrupts).await.map_err(by_key)?;
        let id = id_of(&made.sandbox_id)?;
        let remote = server.remote_with(&id, made.envd_access_token);
        let app = app_of(&loaded.project);
        let started = Self { id, remote, app, domain: made.domain, began };
        match interrupts.or(started.prepare(server, output, loaded, &installed)).await {
            Ok(()) => Ok(started),
            Err(failure) => {
                lifecycle::end(server, output, &started.id).await;
                Err(failure)
            }
        }
    }

    async fn prepare(
        &self,
        server: &Server,
        output: &Output,
        loaded: &Loaded,
        installed: &Installed,
    ) -> Result<()> {
        let network = &loaded.project.network;
        // First: where a name is somebody else's, nothing needs to be copied.
        if let Some(port) = network.ports.first().filter(|_| !network.domains.is_empty()) {
            server.set_domains(&self.id, &network.domains, *port).await.map_err(by_key)?;
        }
        self.fill(output, loaded, installed).await
    }

    async fn fill(&self, output: &Output, loaded: &Loaded, installed: &Installed) -> Result<()> {
        let app = self.app;
        self.remote.make_dir(app, None).await?;
        let left_out = LEFT_OUT.iter().map(|&name| name.to_owned());
        let left_out = left_out.chain(installed.made.iter().cloned()).collect();
        let step = Step::bytes(output, None, "copying the project");
        let sent = archive::send_without(
            &self.remote,
            loaded.dir.clone(),
            app,
            None,
            Arc::new(step),
            left_out,
        );
        sent.await?.tell(output);
        if app != APP {
            self.bring_packages(app, &installed.made).await?;
        }
        Ok(())
    }

    /// Programs look for packages beside their code, which is not where these were installed.
    async fn bring_packages(&self, app: &str, made: &[String]) -> Result<()> {
        let modules = |path: &&String| Path::new(path).file_name().is_some_and(|n| n == MODULES);
        let directories: Vec<&str> = made.iter().filter(modules).map(String::as_str).collect();
        match directories[..] {
            [] => Ok(()),
            [MODULES] => {
                let link = [format!("{APP}/{MODULES}"), format!("{app}/{MODULES}")];
                self.run_quietly("ln", &["-s", &link[0], &link[1]]).await
            }
            _ => {
                self.run_quietly("sh", &[&["-c", MIRROR, APP, app], &directories[..]].concat())
                    .await
            }
        }
    }

    async fn run_quietly(&self, program: &str, args: &[&str]) -> Result<()> {
        let process = Config {
            cmd: program.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..Config::default()
        };
        let launch = Launch { process, ..Launch::default() };
        let end =
            session::run(&self.remote, launch, Input::None, |_| None, async |_| Ok(())).await?;
        match end.code() {
            0 => Ok(()),
            code => Err(Failure::Protocol(format!("{program} in the sandbox ended with {code}"))),
        }
    }

    /// How long it is since the first request.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until the project is ready, and says how long that took from the first request on. What does not say
    /// when it is ready is so at once, if it runs a moment later.
    ///
    /// # Errors
    /// If it is not within `limit`.
    pub(super) async fn ready(&self, commands: &Commands, limit: Duration) -> Result<Duration> {
        match &commands.ready {
            Some(ready) => {
                ready::wait(&self.remote, ready, self.app, limit).await?;
                Ok(self.age())
            }
            None => {
                let age = self.age();
                tokio::time::sleep(MOMENT).await;
                Ok(age)
            }
        }
    }

    /// Says that it is ready, and where.
    ///
    /// # Errors
    /// If standard output is gone.
    pub(super) fn announce(
        &self,
        server: &Server,
        output: &Output,
        project: &Project,
        after: Duration,
    ) -> Result<()> {
        let ready_ms = after.as_secs_f64() * 1000.0;
        let (name, domain) = (&project.project.name, self.domain.as_deref());
        if !output.json {
            let life = project.resources.timeout;
            output.note(format!(
                "{name} is ready after {ready_ms:.0} ms; its sandbox ends after {life:?}: resources.timeout"
            ));
        }
        let ports =
            project.network.ports.iter().map(|port| server.port_url(&self.id, *port, domain));
        let names = project.network.domains.iter().map(|name| server.domain_url(name));
        tell(output, name, &self.id, ports.chain(names).collect(), Some(ready_ms))
    }
}

/// Says where a project that was up before is.
///
/// # Errors
/// If standard output is gone.
pub(super) fn tell_of(server: &Server, output: &Output, sandbox: &ListedSandbox) -> Result<()> {
    let name = sandbox.metadata.get(NAME).map(String::as_str).unwrap_or_default();
    let id = id_of(&sandbox.sandbox_id)?;
    let ports = ports_in(sandbox).map(|port| server.port_url(&id, port, None));
    let names = sandbox.metadata.get(DOMAINS).map(String::as_str).unwrap_or_default();
    let names = names.split_terminator(',').map(|name| server.domain_url(name));
    tell(output, name, &id, ports.chain(names).collect(), None)
}

fn tell(
    output: &Output,
    project: &str,
    id: &SandboxId,
    urls: Vec<String>,
    ready_ms: Option<f64>,
) -> Result<()> {
    if output.json {
        return output.record(&Told { project, sandbox_id: id.to_string(), urls, ready_ms });
    }
    for url in urls {
        output.note(format!("  {}", plain(&url)));
    }
    Ok(())
}
