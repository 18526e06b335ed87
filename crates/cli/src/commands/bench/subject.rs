//! The server that is measured: the one that runs, or one started for it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use soulbox_wire::rest::{NewSandboxV2, TemplateState};
use tokio::process::{Child, Command};

use super::Interrupt;
use crate::{
    client::{Remote, Server, locate, process::Config, remote::Launch},
    data_dir::DataDir,
    failure::{Failure, Result},
    progress::Step,
    settings::Settings,
};

/// How long a temporary server may take to start: it formats a file system.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_millis(5);
/// Sandboxes of a run end by themselves soon after it, whatever happens to it.
const LIFE_SECONDS: i32 = 600;

/// What is measured.
#[derive(Debug)]
pub(super) struct Subject {
    pub server: Server,
    pub template: String,
    /// Where the server keeps its templates, if it runs on this machine.
    pub templates: Option<PathBuf>,
    temporary: Option<Temporary>,
}

#[derive(Debug)]
struct Temporary {
    child: Child,
    data_dir: PathBuf,
}

impl Subject {
    pub(super) async fn find(
        settings: &Settings,
        template: Option<String>,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let (server, data_dir, temporary) = match running(settings).await? {
            Some((server, data_dir)) => (server, data_dir, None),
            None => {
                let temporary = Temporary::start(settings, interrupt).await?;
                let data_dir = temporary.data_dir.clone();
                let settings = Settings {
                    data_dir: DataDir::new(&data_dir),
                    names_data_dir: true,
                    api_url: None,
                    api_key: None,
                    ..settings.clone()
                };
                (locate(&settings)?, Some(data_dir), Some(temporary))
            }
        };
        let template = match template {
            Some(template) => template,
            None => best_template(&server).await?,
        };
        let templates = data_dir.map(|dir| dir.join("store/templates"));
        Ok(Self { server, template, templates, temporary })
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(super) fn request(&self) -> NewSandboxV2 {
        NewSandboxV2 {
            template_id: self.template.clone(),
            timeout: Some(LIFE_SECONDS),
            ..NewSandboxV2::default()
        }
    }

    pub(super) async fn end(self) {
        if let Some(temporary) = self.temporary {
            temporary.end().await;
        }
    }
}

/// Lets what the sample before left be cleaned up outside of the next one's time.
pub(super) async fn settle() {
    tokio::time::sleep(SETTLE).await;
}

/// The smallest command: what it costs is the platform's.
pub(super) fn nothing() -> Launch {
    let process = Config { cmd: super::floor::COMMAND.into(), ..Config::default() };
    Launch { process, ..Launch::default() }
}

/// Runs a command to its exit code.
pub(super) async fn run(remote: &Remote, launch: &Launch) -> Result<()> {
    use crate::client::process::Event;
    let mut running = remote.start(launch).await?;
    let mut code = None;
    while let Some(event) = running.next().await? {
        if let Event::End(end) = event {
            code = Some(end.code());
        }
    }
    match code {
        Some(0) => Ok(()),
        code => Err(Failure::Protocol(format!("the measured command ended with {code:?}"))),
    }
}

/// The server that the settings lead to, if it answers, and its data directory if that is here.
async fn running(settings: &Settings) -> Result<Option<(Server, Option<PathBuf>)>> {
    let server = match locate(settings) {
        Ok(server) => server,
        Err(Failure::NoServer { .. }) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let here = settings.data_dir.announcement()?.filter(|said| said.url == server.url());
    match server.templates().await {
        Ok(_) => Ok(Some((server, here.map(|_| settings.data_dir.path().to_owned())))),
        // An announcement that outlived its server.
        Err(Failure::Unreachable { .. }) if here.is_some() => Ok(None),
        Err(failure) => Err(failure),
    }
}

async fn best_template(server: &Server) -> Result<String> {
    let templates = server.templates().await?;
    let ready = |name: &str| {
        templates
            .iter()
            .any(|template| template.name == name && template.state == TemplateState::Ready)
    };
    Ok(if ready("base") { "base" } else { "host" }.to_owned())
}

impl Temporary {
    async fn start(settings: &Settings, interrupt: &Interrupt) -> Result<Self> {
        let _step = Step::spin(&settings.output, "no server runs: starting a temporary one");
        let data_dir = fresh_dir("bench")?;
        let program = std::env::current_exe().map_err(Failure::io("finding this program"))?;
        let child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--kill-sandboxes", "--no-base"])
            .arg("--data-dir")
            .arg(&data_dir)
            .env("SOULBOX_LOG", "warn")
            .env_remove("SOULBOX_DOMAIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is for us: we end it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::io("starting a temporary server"))?;
        let mut temporary = Self { child, data_dir };
        match temporary.ready(interrupt).await {
            Ok(()) => Ok(temporary),
            Err(failure) => {
                temporary.end().await;
                Err(failure)
            }
        }
    }

    async fn ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        let failed = |message: String| Failure::Environment {
            message,
            hint: "`soulbox doctor` says what is missing".into(),
        };
        let data_dir = DataDir::new(&self.data_dir);
        let began = Instant::now();
        while began.elapsed() < START {
            interrupt.check()?;
            if data_dir.announcement()?.is_some() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(failed(format!("the temporary server ended with {status}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(failed(format!("the temporary server was not ready within {} s", START.as_secs())))
    }

    async fn end(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
            if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
                tracing::warn!("the temporary server does not end: killing it");
                let _ = self.child.kill().await;
            }
        }
        remove(&self.data_dir);
    }
}

/// A new directory for this process alone.
pub(super) fn fresh_dir(purpose: &str) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let name = format!("soulbox-{purpose}-{}", uuid::Uuid::new_v4().simple());
    let path = std::env::temp_dir().join(name);
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .map_err(Failure::io(path.display().to_string()))?;
    Ok(path)
}

pub(super) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "a temporary directory stays behind");
    }
}
