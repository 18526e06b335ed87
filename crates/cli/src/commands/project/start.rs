//! A sandbox with a copy of the project in it.

use std::{sync::Arc, time::Instant};

use serde::Serialize;
use soulbox_model::SandboxId;
use soulbox_spec::{Project, VersionRequest};

use super::{id_of, load::Loaded};
use crate::{
    client::{
        Remote, Server,
        process::{Config, Data},
        remote::Launch,
    },
    commands::sandbox::{
        archive, lifecycle,
        session::{self, Input},
    },
    failure::{Failure, Result},
    output::{Output, plain},
    progress::Step,
};

/// Where a project lies inside.
pub(super) const APP: &str = "/home/user/app";
/// Of a project that nothing can be written to.
const APP_IN_MEMORY: &str = "/tmp";
/// What a directory has that a program does not need.
const LEFT_OUT: [&str; 1] = [".git"];

/// A project's sandbox, before its first command.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) id: SandboxId,
    pub(super) remote: Remote,
    domain: Option<String>,
    began: Instant,
}

#[derive(Serialize)]
struct Told<'a> {
    project: &'a str,
    sandbox_id: String,
    urls: Vec<String>,
    ready_ms: f64,
}

impl Started {
    /// Makes the sandbox, with its template where that has to be built, and copies the project in.
    ///
    /// # Errors
    /// What went wrong; nothing is left then.
    pub(super) async fn make(server: &Server, output: &Output, loaded: &Loaded) -> Result<Self> {
        let began = Instant::now();
        let new = loaded.sandbox()?;
        let made = lifecycle::make(server, output, &new, true).await?;
        let id = id_of(&made.sandbox_id)?;
        let remote = server.remote_with(&id, made.envd_access_token);
        let started = Self { id, remote, domain: made.domain, began };
        match started.fill(output, loaded).await {
            Ok(()) => Ok(started),
            Err(failure) => {
                let _ = server.kill(&started.id).await;
                Err(failure)
            }
        }
    }

    async fn fill(&self, output: &Output, loaded: &Loaded) -> Result<()> {
        if loaded.project.security.read_only {
            return Err(Failure::Environment {
                message: format!("security.read_only: the project lies in {APP}, which could not be \
                                  filled; {APP_IN_MEMORY} alone is writable"),
                hint: "put the project into a template".into(),
            });
        }
        self.remote.make_dir(APP, None).await?;
        let step = Step::bytes(output, None, "copying the project");
        archive::send_without(
            &self.remote,
            loaded.dir.clone(),
            APP,
            None,
            Arc::new(step),
            &LEFT_OUT,
        )
        .await?;
        let template = &loaded.project.template;
        self.check_version("python_version", "python3", template.python_version.as_ref()).await?;
        self.check_version("nodejs_version", "node", template.nodejs_version.as_ref()).await
    }

    /// # Errors
    /// If what the template has is not what the project wants.
    async fn check_version(
        &self,
        key: &str,
        program: &str,
        wanted: Option<&VersionRequest>,
    ) -> Result<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        let process = Config {
            cmd: program.to_owned(),
            args: vec!["--version".to_owned()],
            ..Config::default()
        };
        let mut said = Vec::new();
        let launch = Launch { process, ..Launch::default() };
        let ended = session::run(
            &self.remote,
            launch,
            Input::None,
            |_| None,
            async |data| {
                let (Data::Stdout(bytes) | Data::Stderr(bytes) | Data::Pty(bytes)) = data;
                said.extend_from_slice(&bytes.0[..bytes.0.len().min(200)]);
                Ok(())
            },
        )
        .await;
        let text = plain(String::from_utf8_lossy(&said).trim());
        let version = text.rsplit(' ').next().unwrap_or_default().trim_start_matches('v');
        if ended.is_ok_and(|end| end.code() == 0) && wanted.matches(version) {
            return Ok(());
        }
        let found = if version.is_empty() { "none".to_owned() } else { version.to_owned() };
        Err(Failure::Environment {
            message: format!("template.{key}: the template has {program} {found}, and this server installs \
                              no other yet"),
            hint: "leave the key out, or ask for what the template has".into(),
        })
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
    ) -> Result<()> {
        let urls: Vec<String> = project
            .network
            .ports
            .iter()
            .map(|port| server.port_url(&self.id, *port, self.domain.as_deref()))
            .collect();
        let ready_ms = self.began.elapsed().as_secs_f64() * 1000.0;
        if output.json {
            let (project, sandbox_id) = (project.project.name.as_str(), self.id.to_string());
            return output.record(&Told { project, sandbox_id, urls, ready_ms });
        }
        output.note(format!("{} is ready after {ready_ms:.0} ms", project.project.name));
        for url in urls {
            output.note(format!("  {url}"));
        }
        Ok(())
    }
}
