//! Derived templates: a sandbox of the parent is made, filled, worked in and frozen.
//!
//! It is nobody's sandbox: it has no row, no timer and no client, and what a server that died left of
//! one is swept like every other leftover.

mod agent;
mod far;
mod outward;
mod step;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use soulbox_engine::{Engine, Frozen, Rootfs, SandboxSpec, Without};
use soulbox_image::{
    Error, Template, TemplateState, Unused,
    derived::{Derived, Job, Plan, Prepared, Preparer},
};
use soulbox_model::{
    BoxError, Resources, Result, SandboxId, TeamId, boot::AgentConfig, resources::GIB,
};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

pub use self::outward::Outward;
use self::{agent::Agent, far::Far, outward::Opened};
use crate::{
    core::{Core, now},
    live::{Registry, Slot},
};

/// Of a sandbox in which a template is prepared: what installers want, not what its sandboxes get.
const RESOURCES: Resources =
    Resources { cpu_millis: 2000, memory_bytes: 2 * GIB, disk_bytes: 4 * GIB, pids: 512 };
/// Templates prepared at the same time; the others wait.
const AT_ONCE: usize = 6;
/// Of one team, so that none makes all others wait.
const OF_A_TEAM: usize = 2;
/// Of one team, those that wait included.
const UNDER_WAY: usize = 16;
/// Where an archive lies while it is unpacked.
const ARCHIVE: &str = "/tmp/.soulbox-input";
/// Emptied at the end: nobody wants the rests of an installation in every sandbox.
/// Entry by entry: a new directory may have the inode number of `/tmp`, which lies in another layer, and
/// whoever walks from there takes that for a loop.
const SCRATCH: &str = "for entry in /tmp/* /tmp/.[!.]* /tmp/..?* /var/tmp/* /var/tmp/.[!.]* /var/tmp/..?*; do \
                       rm -rf -- \"$entry\" || exit; done";
const SHORT: Duration = Duration::from_secs(60);
const UNPACK: Duration = Duration::from_secs(300);

/// Prepares derived templates with an engine.
#[derive(Debug)]
pub struct Workbench {
    engine: Arc<dyn Engine>,
    /// None where nothing that is prepared reaches anything.
    outward: Option<Outward>,
    /// Who counts sandboxes; `None`: those of the server itself, which are not.
    registry: Option<Arc<Registry>>,
    places: Arc<Semaphore>,
    of_teams: Mutex<HashMap<Option<TeamId>, Arc<Semaphore>>>,
}

impl Workbench {
    /// For what belongs to the server, and reaches nothing.
    pub fn new(engine: Arc<dyn Engine>) -> Arc<Self> {
        Self::with(engine, None, None)
    }

    /// For what teams ask for: it reaches what `outward` opens, and counts as sandboxes do.
    pub(crate) fn of_teams(
        engine: Arc<dyn Engine>,
        outward: Outward,
        registry: Arc<Registry>,
    ) -> Arc<Self> {
        Self::with(engine, Some(outward), Some(registry))
    }

    fn with(
        engine: Arc<dyn Engine>,
        outward: Option<Outward>,
        registry: Option<Arc<Registry>>,
    ) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Arc::new(Self { engine, outward, registry, places, of_teams: Mutex::default() })
    }

    /// Waits for a place; the team's own first, so that what waits for that holds none of the others'.
    async fn place(&self, team: Option<TeamId>) -> std::result::Result<Permits, AcquireError> {
        let own = {
            let mut teams = self.of_teams.lock();
            let new = || Arc::new(Semaphore::new(OF_A_TEAM));
            Arc::clone(teams.entry(team).or_insert_with(new))
        };
        Ok([own.acquire_owned().await?, Arc::clone(&self.places).acquire_owned().await?])
    }

    async fn let_out(
        &self,
        id: &SandboxId,
        agent: &Agent<'_>,
        template: &str,
    ) -> std::result::Result<Opened, BoxError> {
        let outward = self.outward.as_ref().ok_or("nothing is let out here")?;
        outward.open(self.engine.as_ref(), id, agent, template).await
    }

    async fn work(
        &self,
        job: &Job<'_>,
        agent: &Agent<'_>,
        far: &Far,
    ) -> std::result::Result<(), BoxError> {
        let opened = match job.internet {
            true => Some(self.let_out(agent.id, agent, job.name).await?),
            false => None,
        };
        let total = job.archives.len() + job.steps.len() + 1;
        let mut done = 0;
        let mut say = |what: String| {
            // The second half of the way, but for the end.
            let percent = u8::try_from(50 + done * 45 / total).unwrap_or(95);
            done += 1;
            far.begin(&what);
            job.report.report(percent, what);
            percent
        };
        for archive in &job.archives {
            say(format!("unpacking into {}", archive.target));
            let target = archive.target.as_str();
            agent.run("root", &["mkdir", "-p", "--", target], SHORT).await?;
            agent.upload(&archive.file, ARCHIVE).await?;
            let strip = format!("--strip-components={}", archive.strip);
            let unpack = ["tar", "-x", "-f", ARCHIVE, "-C", target, "--no-same-owner", &strip];
            agent.run("root", &unpack, UNPACK).await?;
            agent.run("root", &["rm", "-f", ARCHIVE], SHORT).await?;
        }
        for step in job.steps {
            let program = step.argv.first().map_or("nothing", String::as_str);
            let program = program.rsplit('/').next().unwrap_or(program);
            let percent = say(format!("running {program}"));
            let heard = |line: &str| {
                far.hear(line);
                job.report.report(percent, format!("{program}: {line}"));
            };
            step::run(agent, step, opened.as_ref(), &heard).await?;
        }
        say("tidying up".to_owned());
        agent.run("root", &["sh", "-c", SCRATCH], SHORT).await?;
        Ok(())
    }
}

type Permits = [OwnedSemaphorePermit; 2];

/// What a preparation takes of what others want, too.
#[derive(Debug)]
struct Places {
    _permits: Permits,
    _slot: Option<Slot>,
}

/// A sandbox in which a template is prepared; destroyed when its owner does not go on with it, and then
/// only its places are free.
#[derive(Debug)]
struct Seat {
    engine: Arc<dyn Engine>,
    id: SandboxId,
    /// None once its layer is kept, when it is gone.
    places: Option<Places>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(places) = self.places.take() else { return };
        let (engine, id) = (Arc::clone(&self.engine), self.id.clone());
        tokio::spawn(async move {
            if let Err(error) = engine.destroy(&id).await {
                tracing::warn!(sandbox = %id, %error, "a preparation could not be removed");
            }
            drop(places);
        });
    }
}

/// Makes and starts a sandbox of `parent`. In a task of its own: an engine that was stopped in the middle
/// would leave what nobody knows of. If nobody waits for the task any more, its seat is dropped.
async fn sit(engine: &Arc<dyn Engine>, parent: &Template, places: Places) -> Done<Seat> {
    let (engine, spec) =
        (Arc::clone(engine), SandboxSpec { rootfs: rootfs(parent), resources: RESOURCES });
    let (template_id, env) = (parent.id.clone(), parent.env.clone());
    let default_user = parent.default_user.clone();
    let made = tokio::spawn(async move {
        let id = engine.reserve(spec).await?.id;
        let seat = Seat { engine, id, places: Some(places) };
        let config = AgentConfig {
            sandbox_id: seat.id.clone(),
            template_id,
            access_token: None,
            default_user,
            default_workdir: None,
            env,
            ca_bundle: None,
            started_at_ms: now().timestamp_millis(),
        };
        seat.engine.start(&seat.id, config).await?;
        Ok(seat)
    });
    made.await?
}

/// Keeps what was written in a sandbox, which is gone then. It goes on to its end when nobody waits any
/// more, and holds the draft meanwhile.
async fn keep(mut seat: Seat, job: &Job<'_>) -> Done<Frozen> {
    let (held, into) = (Arc::clone(job.hold).lock_owned().await, job.into.to_owned());
    let kept = tokio::spawn(async move {
        let kept = seat.engine.freeze(&seat.id, &into).await?;
        drop((seat.places.take(), held));
        Ok(kept)
    });
    kept.await?
}

type Done<T> = std::result::Result<T, BoxError>;

#[async_trait]
impl Preparer for Workbench {
    async fn prepare(&self, job: Job<'_>) -> Result<Prepared, Error> {
        let failed = |advice: &str, error: &dyn std::fmt::Display| Error::Build {
            name: job.name.to_owned(),
            advice: advice.to_owned(),
            log: error.to_string(),
        };
        job.report.report(50, "waiting for other preparations");
        let permits = self.place(job.team).await.map_err(|e| failed("the server stops", &e))?;
        let slot = self.registry.as_ref().map(|registry| registry.take_slot());
        let slot = slot.transpose().map_err(|error| crowded(job.name, error))?;
        let places = Places { _permits: permits, _slot: slot };
        job.report.report(50, "making a sandbox");
        let seat = sit(&self.engine, job.parent, places).await;
        let seat = seat.map_err(|error| failed("no sandbox could be made for it", &error))?;
        let agent = Agent { engine: self.engine.as_ref(), id: &seat.id };
        let far = Far::of(job.archives.len() + job.steps.len() + 1);
        match timeout(job.within, self.work(&job, &agent, &far)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed("a step failed", &error)),
            Err(_) => return Err(failed("it takes too long", &far.told(job.within))),
        }
        let kept = keep(seat, &job).await;
        let kept = kept.map_err(|error| failed("its layer could not be kept", &error))?;
        Ok(Prepared { root: kept.layer, bytes: kept.bytes })
    }
}

fn crowded(name: &str, error: soulbox_model::Error) -> Error {
    match error {
        soulbox_model::Error::ResourceLimit { resource, current, limit } => {
            Error::Crowded { resource, current, limit }
        }
        error => Error::Build {
            name: name.to_owned(),
            advice: "it got no place".to_owned(),
            log: error.to_string(),
        },
    }
}

/// What an engine needs of a template.
pub(crate) fn rootfs(template: &Template) -> Rootfs {
    let binds = template
        .binds
        .iter()
        .map(|(source, target)| soulbox_engine::Bind {
            source: source.clone(),
            target: target.clone(),
        })
        .collect();
    Rootfs { layers: template.layers.clone(), binds, without: Without::default() }
}

impl Core {
    /// Makes the template of `plan` known to `team`, and says what it is called.
    pub(crate) fn derive(&self, team: TeamId, mut plan: Plan) -> Result<String> {
        let parent = self.templates.find(&plan.parent)?;
        if !parent.team.is_none_or(|owner| owner == team) {
            return Err(soulbox_model::Error::not_found("template", &plan.parent));
        }
        plan.parent = parent.name;
        plan.team = Some(team);
        let recipe = Derived::new(plan, Arc::clone(&self.workbench) as _);
        let name = soulbox_image::Recipe::name(&recipe).to_owned();
        if self.templates.resolve(&name).is_err() {
            self.check_preparation(team, &name)?;
            self.templates.check_room(team, &recipe)?;
        }
        self.templates.add(Arc::new(recipe))?;
        Ok(name)
    }

    /// Whether a team may have one more template made. To wait for one that is under way takes nothing.
    ///
    /// # Errors
    /// [`soulbox_model::Error::ResourceLimit`].
    pub(crate) fn check_preparation(&self, team: TeamId, name: &str) -> Result<()> {
        let mut under_way = self.templates.list();
        under_way.retain(|status| {
            status.team == Some(team) && matches!(status.state, TemplateState::Building(_))
        });
        if under_way.iter().any(|status| status.name == name) {
            return Ok(());
        }
        if under_way.len() >= UNDER_WAY {
            return Err(soulbox_model::Error::ResourceLimit {
                resource: "templates in preparation".into(),
                current: under_way.len() as u64,
                limit: UNDER_WAY as u64,
            });
        }
        self.registry.check_slot()
    }

    /// Removes derived templates that no sandbox stands on and nobody asked for in `unused_for`.
    pub(crate) async fn prune(
        self: &Arc<Self>,
        team: TeamId,
        unused_for: Duration,
    ) -> Result<Vec<Arc<Template>>> {
        let core = Arc::clone(self);
        let in_use = move |id: &_| core.registry.all().iter().any(|live| live.template_id == *id);
        let (templates, unused) = (Arc::clone(&self.templates), Unused { since: unused_for, team });
        let found = spawn_blocking(move || {
            // First: what is taken is on the disk, and nobody's any more.
            let outdated = templates.outdated(&in_use).unwrap_or_else(|error| {
                tracing::warn!(%error, "outdated templates stay");
                Vec::new()
            });
            let mut found = templates.take_unused(unused, &in_use);
            found.extend(outdated.into_iter().map(Arc::new));
            found
        });
        let found = found.await.map_err(|e| soulbox_model::Error::internal("prune", e))?;
        for template in &found {
            if let Some(layer) = template.layers.first() {
                self.engine.release(layer).await;
            }
            let (templates, gone) = (Arc::clone(&self.templates), Arc::clone(template));
            let deleted = spawn_blocking(move || templates.delete(&gone)).await;
            deleted.map_err(|e| soulbox_model::Error::internal("prune", e))??;
            tracing::info!(template = %template.name, bytes = template.size_bytes, "pruned");
        }
        Ok(found)
    }
}
