//! Making a sandbox: admit, make, announce.

use std::{collections::BTreeMap, sync::Arc};

use soulbox_egress::Authority;
use soulbox_engine::{Reserved, Rootfs, SandboxSpec, Without};
use soulbox_faults::point;
use soulbox_image::Template;
use soulbox_model::{ENVD_VERSION, Error, Result, TeamId, boot::AgentConfig, network::Network};
use soulbox_store::{Idempotency, SandboxRow};
use tokio::sync::oneshot;

use super::{Cause, repeat::Lead};
use crate::{
    admit,
    core::{Core, now},
    derive::rootfs,
    failure,
    live::Live,
    types::{Create, Sandbox, Shape, State},
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
        let template = self.templates.resolve_for(team, &request.template)?;
        let mut request = self.with_secrets(team, request).await?;
        let slot = self.registry.take_slot()?;
        point("create.admitted");
        let spec = self.spec(&template, &request.shape);
        let reserved =
            self.engine.reserve(spec).await.map_err(|e| failure::of_creation(None, e))?;
        let id = reserved.id.clone();
        point("create.reserved");
        let env = std::mem::take(&mut request.env);
        let authority = authority_for(request.network.as_ref())?;
        let certificate = authority.as_ref().map(Authority::certificate);
        let mut row = self.row(team, request, &template, reserved);
        row.authority = authority.as_ref().map(Authority::to_pem);
        let agent = self.agent(&row, env, &template, self.trusted(certificate));

        // The row is written beside the start, and says how to find the sandbox from its first moment.
        let (written, started) = tokio::join!(
            self.store.insert_sandbox(&row, idempotency),
            self.engine.start(&id, agent),
        );
        if let Err(error) = started {
            tracing::warn!(sandbox = %id, %error, "sandbox could not be created");
            if written.is_ok() {
                self.forget(&id).await;
            }
            return Err(failure::of_creation(Some(&id), error));
        }
        if let Err(error) = written {
            tracing::error!(sandbox = %id, %error, "a new sandbox could not be recorded");
            self.discard(id);
            return Err(error.into());
        }
        point("create.started");
        let live = Arc::new(Live::new(self, row, slot));
        live.journal.note(
            crate::types::Level::Info,
            "sandbox created",
            &[("event", "created"), ("template", &live.template_name)],
        );
        tracing::info!(sandbox = %id, template = %live.template_name, "sandbox created");
        self.open_way_out(&live).await;
        self.announce(&live);
        point("create.announced");
        self.note_running(&live);
        Ok(live)
    }

    /// Nobody waits for this write: a start that finds the row without it looks whether the agent
    /// serves.
    fn note_running(self: &Arc<Self>, live: &Arc<Live>) {
        let (core, live) = (Arc::clone(self), Arc::clone(live));
        self.work.spawn(async move {
            if let Err(error) = core.store.set_running(&live.id).await {
                tracing::warn!(sandbox = %live.id, %error, "could not note that a sandbox runs");
            }
        });
    }

    /// Checks the secrets that a request names, and puts those of its environment in.
    async fn with_secrets(&self, team: TeamId, mut request: Create) -> Result<Create> {
        if let Some(network) = &request.network {
            let checked = self.check_egress(team, &network.egress).await;
            checked.map_err(|error| error.below("network"))?;
        }
        if request.env_secrets {
            let (env, grants) = self.secrets().fill_in(team, request.env).await?;
            admit::check_env(&env)?;
            request.env = env;
            if !grants.is_empty() {
                let network = request
                    .network
                    .get_or_insert_with(|| Network::of_internet(request.allow_internet));
                network.egress.grants = grants;
            }
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

    fn spec(&self, template: &Template, shape: &Shape) -> SandboxSpec {
        let without = Without { setuid: shape.no_setuid, writes: shape.read_only };
        SandboxSpec {
            rootfs: Rootfs { without, ..rootfs(template) },
            resources: shape.resources.unwrap_or(self.resources),
        }
    }

    fn row(
        &self,
        team: TeamId,
        request: Create,
        template: &Template,
        reserved: Reserved,
    ) -> SandboxRow {
        let started_at = now();
        SandboxRow {
            id: reserved.id,
            team,
            template_id: template.id.clone(),
            template_name: template.name.clone(),
            alias: Some(template.name.clone()),
            state: State::Creating,
            metadata: request.metadata,
            resources: request.shape.resources.unwrap_or(self.resources),
            started_at,
            end_at: started_at + request.timeout,
            secure: request.secure,
            auto_pause: request.auto_pause,
            allow_internet: request.allow_internet,
            envd_version: ENVD_VERSION.to_owned(),
            record: Some(reserved.record.0),
            network: request.network,
            authority: None,
        }
    }

    fn agent(
        &self,
        row: &SandboxRow,
        env: BTreeMap<String, String>,
        template: &Template,
        ca_bundle: Option<String>,
    ) -> AgentConfig {
        AgentConfig {
            sandbox_id: row.id.clone(),
            template_id: template.id.clone(),
            access_token: self.access_token(row),
            default_user: template.default_user.clone(),
            default_workdir: template.workdir.clone(),
            env: template.env.clone().into_iter().chain(env).collect(),
            ca_bundle,
            started_at_ms: row.started_at.timestamp_millis(),
        }
    }

    /// The same after every restart, and written nowhere.
    pub(crate) fn access_token(&self, row: &SandboxRow) -> Option<String> {
        row.secure.then(|| self.store.secret().derive(ACCESS_TOKEN, row.id.as_str().as_bytes()))
    }
}

/// Only rules for what requests hold make anybody open TLS.
fn authority_for(network: Option<&Network>) -> Result<Option<Authority>> {
    if network.is_none_or(|network| !network.egress.opens_any()) {
        return Ok(None);
    }
    let made = Authority::new();
    made.map(Some).map_err(|e| Error::internal("no authority for the rules could be made", e))
}
