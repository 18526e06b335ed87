//! Making a sandbox: admit, make, announce.

use std::sync::Arc;

use soulbox_engine::{Bind, Rootfs, SandboxSpec};
use soulbox_image::Template;
use soulbox_model::{ENVD_VERSION, Error, Result, SandboxId, TeamId, boot::AgentConfig};
use soulbox_store::{Idempotency, SandboxRow};
use tokio::sync::oneshot;

use super::{Cause, repeat::Lead};
use crate::{
    admit,
    core::{Core, now},
    failure,
    live::Live,
    types::{Create, Sandbox, State},
};

const ACCESS_TOKEN: &str = "sandbox access token";

impl Core {
    pub(crate) async fn create(self: &Arc<Self>, team: TeamId, request: Create) -> Result<Sandbox> {
        self.check_open()?;
        admit::check(&request, &self.limits)?;
        match request.idempotency_key.clone() {
            None => self.make_for_caller(team, request, None).await,
            Some(key) => self.create_once(team, request, key).await,
        }
    }

    /// Makes a sandbox in a task of its own, so that a caller who goes away cannot leave it half
    /// made. A whole one that nobody waits for any more is ended, unless the caller can come back
    /// for it with `lead`'s key.
    pub(super) async fn make_for_caller(
        self: &Arc<Self>,
        team: TeamId,
        request: Create,
        lead: Option<(Lead, Idempotency)>,
    ) -> Result<Sandbox> {
        let (answer, made) = oneshot::channel();
        let core = Arc::clone(self);
        self.work.spawn(async move {
            let (lead, idempotency) = lead.unzip();
            let outcome = core.make(team, request, idempotency.as_ref()).await;
            let repeatable = lead.is_some();
            // Who waits for the lead must find what it made.
            drop(lead);
            if let Err(Ok(live)) = answer.send(outcome)
                && !repeatable
            {
                core.end(&live, Cause::Abandoned);
            }
        });
        let live = made.await.map_err(|e| Error::internal("the creation was lost", e))??;
        Ok(live.snapshot(self))
    }

    async fn make(
        self: &Arc<Self>,
        team: TeamId,
        request: Create,
        idempotency: Option<&Idempotency>,
    ) -> Result<Arc<Live>> {
        // Again, since this runs in a task that `close` waits for once it started.
        self.check_open()?;
        let template = self.templates.resolve(&request.template)?;
        let request = self.with_secrets(team, request).await?;
        let slot = self.registry.take_slot()?;
        let timeout = request.timeout;
        let (mut row, spec) = self.plan(team, request, &template);
        let id = row.id.clone();

        // The row is written beside the making, which takes longer.
        let (written, made) =
            tokio::join!(self.store.insert_sandbox(&row, idempotency), self.engine.create(spec),);
        let record = match made {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(sandbox = %id, %error, "sandbox could not be created");
                if written.is_ok() {
                    self.forget(&id).await;
                }
                return Err(failure::of_creation(&id, error));
            }
        };
        row.state = State::Running;
        row.started_at = now();
        row.end_at = row.started_at + timeout;
        let noted = match written {
            Ok(()) => self.store.set_running(&id, &record.0, row.started_at, row.end_at).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::error!(sandbox = %id, %error, "a new sandbox could not be recorded");
            self.discard(id);
            return Err(error.into());
        }
        let live = Arc::new(Live::new(self, row, slot));
        live.journal.note(
            crate::types::Level::Info,
            "sandbox created",
            &[("event", "created"), ("template", &live.template_name)],
        );
        tracing::info!(sandbox = %id, template = %live.template_name, "sandbox created");
        self.announce(&live);
        Ok(live)
    }

    /// Checks the secrets that a request names, and puts those of its environment in.
    async fn with_secrets(&self, team: TeamId, mut request: Create) -> Result<Create> {
        if let Some(network) = &request.network {
            let checked = self.secrets().check_egress(team, &network.egress).await;
            checked.map_err(|error| error.below("network"))?;
        }
        if request.env_secrets {
            request.env = self.secrets().fill_in(team, request.env).await?;
            admit::check_env(&request.env)?;
        }
        Ok(request)
    }

    /// Lets everybody see a sandbox that runs: its callers, its timer, the watch on its PID 1.
    pub(crate) fn announce(self: &Arc<Self>, live: &Arc<Live>) {
        self.registry.insert(Arc::clone(live));
        live.arm(&self.timers);
        let core = Arc::clone(self);
        let live = Arc::clone(live);
        self.watches.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            let exit = core.engine.wait(&live.id).await;
            core.end(&live, Cause::from(exit));
        }));
    }

    fn plan(
        &self,
        team: TeamId,
        request: Create,
        template: &Template,
    ) -> (SandboxRow, SandboxSpec) {
        let id = SandboxId::random();
        let asked_at = now();
        let row = SandboxRow {
            id: id.clone(),
            team,
            template_id: template.id.clone(),
            template_name: template.name.clone(),
            alias: Some(template.name.clone()),
            state: State::Creating,
            metadata: request.metadata,
            resources: self.resources,
            started_at: asked_at,
            end_at: asked_at + request.timeout,
            secure: request.secure,
            auto_pause: request.auto_pause,
            allow_internet: request.allow_internet,
            envd_version: ENVD_VERSION.to_owned(),
            record: None,
            network: request.network,
        };
        let mut env = template.env.clone();
        env.extend(request.env);
        let binds = template
            .binds
            .iter()
            .map(|(source, target)| Bind { source: source.clone(), target: target.clone() })
            .collect();
        let spec = SandboxSpec {
            id: id.clone(),
            rootfs: Rootfs { layers: template.layers.clone(), binds },
            resources: self.resources,
            agent: AgentConfig {
                sandbox_id: id.clone(),
                template_id: template.id.clone(),
                access_token: self.access_token(&row),
                default_user: template.default_user.clone(),
                default_workdir: template.workdir.clone(),
                env,
                hostname: id.to_string(),
                started_at_ms: asked_at.timestamp_millis(),
            },
        };
        (row, spec)
    }

    /// The same after every restart, and written nowhere.
    pub(crate) fn access_token(&self, row: &SandboxRow) -> Option<String> {
        row.secure.then(|| self.store.secret().derive(ACCESS_TOKEN, row.id.as_str().as_bytes()))
    }
}
