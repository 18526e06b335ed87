//! The server that a command examines: the one that runs, or one started for it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use soulbox_wire::rest::TemplateState;
use tokio::process::{Child, Command};

use super::interrupt::Interrupt;
use crate::{
    client::{Server, locate},
    data_dir::DataDir,
    failure::{Failure, Result},
    output::plain,
    progress::Step,
    settings::Settings,
};

/// How long a temporary server may take to start: it formats a file system.
const START: Duration = Duration::from_secs(60);
/// How often to look whether it is ready.
const POLL: Duration = Duration::from_millis(2);
const STOP: Duration = Duration::from_secs(30);

/// What is examined.
#[derive(Debug)]
pub(super) struct Subject {
    pub server: Server,
    pub template: String,
    /// The server's data directory, if it runs on this machine.
    pub data_dir: Option<PathBuf>,
    temporary: Option<Temporary>,
}

#[derive(Debug)]
pub(super) struct Temporary {
    child: Child,
    data_dir: PathBuf,
}

/// What a temporary server is started with beside the usual.
#[derive(Debug, Default)]
pub(super) struct Extra {
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Subject {
    pub(super) async fn find(
        settings: &Settings,
        template: Option<String>,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        Self::find_with(settings, template, interrupt, &Extra::default()).await
    }

    /// A temporary server is started with `extra`; one that runs is taken as it is.
    pub(super) async fn find_with(
        settings: &Settings,
        template: Option<String>,
        interrupt: &Interrupt,
        extra: &Extra,
    ) -> Result<Self> {
        let (server, data_dir, temporary) = match running(settings).await? {
            Some((server, data_dir)) => (server, data_dir, None),
            None => {
                let temporary = Temporary::start(settings, interrupt, extra).await?;
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
        Ok(Self { server, template, data_dir, temporary })
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(super) async fn end(self) {
        if let Some(temporary) = self.temporary {
            temporary.end().await;
        }
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
    async fn start(settings: &Settings, interrupt: &Interrupt, extra: &Extra) -> Result<Self> {
        let _step = Step::spin(&settings.output, "no server runs: starting a temporary one");
        let data_dir = fresh_dir("temporary")?;
        let started = Self::start_on(&data_dir, interrupt, extra).await;
        if started.is_err() {
            remove(&data_dir);
        }
        Ok(started?.0)
    }

    /// Starts a server on `data_dir`, and says how long it took to be ready.
    pub(super) async fn start_on(
        data_dir: &Path,
        interrupt: &Interrupt,
        extra: &Extra,
    ) -> Result<(Self, Duration)> {
        // What it says is worth reading if it does not start, and is read by the attack battery.
        let log = data_dir.join("server.log");
        let log = File::create(&log).map_err(Failure::io(log.display().to_string()))?;
        let program = std::env::current_exe().map_err(Failure::io("finding this program"))?;
        let child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--kill-sandboxes", "--no-base"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(&extra.arguments)
            .envs(extra.environment.iter().map(|(name, value)| (name, value)))
            .env("SOULBOX_LOG", "warn")
            .env_remove("SOULBOX_DOMAIN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for us: we end it in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::io("starting a temporary server"))?;
        let mut temporary = Self { child, data_dir: data_dir.to_owned() };
        let began = Instant::now();
        match temporary.ready(interrupt).await {
            Ok(()) => Ok((temporary, began.elapsed())),
            Err(failure) => {
                temporary.stop().await;
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
                let log = std::fs::read_to_string(self.data_dir.join("server.log"));
                let last = log.unwrap_or_default().lines().last().map(plain).unwrap_or_default();
                return Err(failed(format!("the temporary server ended with {status}: {last}")));
            }
            tokio::time::sleep(POLL).await;
        }
        Err(failed(format!("the temporary server was not ready within {} s", START.as_secs())))
    }

    async fn end(self) {
        let data_dir = self.data_dir.clone();
        self.stop().await;
        remove(&data_dir);
    }

    /// Ends the server; its data directory stays.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
            if tokio::time::timeout(STOP, self.child.wait()).await.is_err() {
                tracing::warn!("the temporary server does not end: killing it");
                let _ = self.child.kill().await;
            }
        }
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
