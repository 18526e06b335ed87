//! The templates of one server: what is there, what is being built, and by which name.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use soulbox_model::TemplateId;
use tokio::{sync::watch, task::spawn_blocking};

use crate::{
    base::Base,
    draft::{self, Draft},
    error::{Error, Result},
    host::Host,
    recipe::{Recipe, Reporter, Workshop},
    template::{self, Progress, Template, TemplateState, TemplateStatus},
    tree,
};

/// The Debian userland; what E2B clients ask for when they name no template.
pub const BASE: &str = "base";
/// The view of this machine's `/usr`.
pub const HOST: &str = "host";

/// Tags that mean the one build that a template has.
const TAGS: [&str; 2] = ["default", "latest"];

/// The templates in one directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Templates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    recipes: Vec<Arc<dyn Recipe>>,
    slots: Mutex<BTreeMap<&'static str, Slot>>,
}

/// What is known of one template. A build that is under way counts, then one that is ready.
#[derive(Debug, Default)]
struct Slot {
    ready: Option<Arc<Template>>,
    flight: Option<Flight>,
    error: Option<String>,
}

/// One build, which everybody who asked for it waits for.
#[derive(Debug, Clone)]
struct Flight {
    progress: watch::Sender<Progress>,
    /// Who waits holds a receiver; the build is cancelled when the last one is gone.
    outcome: watch::Sender<Option<Result<Arc<Template>>>>,
}

impl Templates {
    /// Opens the templates in `dir`, and removes what interrupted builds left there. Blocks: call
    /// it where that does no harm.
    ///
    /// # Errors
    /// If `dir` cannot be made, read or locked.
    pub fn open(dir: PathBuf) -> Result<Self> {
        Self::with_recipes(dir, vec![Arc::new(Base::from_environment()), Arc::new(Host::new())])
    }

    pub(crate) fn with_recipes(dir: PathBuf, recipes: Vec<Arc<dyn Recipe>>) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        match draft::try_lock(&dir) {
            Ok(Some(_lock)) => draft::remove_leftovers(&dir)?,
            Ok(None) => {}
            // A store that its disk's end made read-only has the templates still, and nobody builds there.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                tracing::warn!("templates cannot be built: their store is read-only");
            }
            Err(error) => return Err(error),
        }
        let mut slots = BTreeMap::new();
        for recipe in &recipes {
            let ready = template::load(&home(&dir, recipe.as_ref()))?.map(Arc::new);
            slots.insert(recipe.name(), Slot { ready, ..Slot::default() });
        }
        Ok(Self { inner: Arc::new(Inner { dir, recipes, slots: Mutex::new(slots) }) })
    }

    /// Finds a template by its name or id, with or without a tag.
    ///
    /// # Errors
    /// [`Error::Unknown`], or [`Error::NotReady`] with how far its build is; both as the
    /// platform's error.
    pub fn resolve(&self, name_or_id: &str) -> Result<Arc<Template>, soulbox_model::Error> {
        let recipe = self.recipe(name_or_id)?;
        match self.state(recipe.name()) {
            TemplateState::Ready(template) => Ok(template),
            TemplateState::Building(progress) => Err(not_ready(recipe.name(), progress, true)),
            TemplateState::Missing { error: Some(error) } => {
                Err(not_ready(recipe.name(), format_args!("its build failed: {error}"), false))
            }
            TemplateState::Missing { error: None } => {
                Err(not_ready(recipe.name(), "it has not been built yet", true))
            }
        }
    }

    /// Every template that there could be.
    pub fn list(&self) -> Vec<TemplateStatus> {
        let known = self.inner.recipes.iter();
        known
            .filter_map(|recipe| {
                let name = recipe.name();
                let state = self.state(name);
                let id = id_of(name).ok()?;
                Some(TemplateStatus { id, name: name.to_owned(), state })
            })
            .collect()
    }

    /// Makes a template unless it is there. Everybody who asks at the same time waits for the same
    /// build, and `progress` is called at every step of it. It is cancelled, and leaves nothing,
    /// when the last of these futures is dropped.
    ///
    /// # Errors
    /// What stopped the build, with what to do about it.
    pub async fn build(&self, name: &str, progress: impl Fn(Progress)) -> Result<Arc<Template>> {
        let recipe = self.recipe(name)?;
        loop {
            let flight = match self.join(recipe) {
                Joined::Ready(template) => return Ok(template),
                Joined::Flight(flight) => flight,
            };
            match flight.wait(recipe.name(), &progress).await {
                // Cancelled by others just when this one joined.
                Err(Error::Cancelled(_)) => tokio::task::yield_now().await,
                result => return result,
            }
        }
    }

    /// Deletes builds that a newer version of SoulBox, or a change of the host, has replaced, and
    /// says how many. Call it only while no sandbox lives: one may stand on an old build.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn remove_outdated(&self) -> Result<usize> {
        let dir = &self.inner.dir;
        let Some(_lock) = draft::try_lock(dir)? else { return Ok(0) };
        let current: Vec<_> = self.inner.recipes.iter().map(|r| home(dir, r.as_ref())).collect();
        let mut removed = 0;
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let path = entry.map_err(Error::io("list", dir))?.path();
            if path.join(template::META).exists() && !current.contains(&path) {
                fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn recipe(&self, name: &str) -> Result<&Arc<dyn Recipe>> {
        let plain = match name.split_once(':') {
            Some((plain, tag)) if TAGS.contains(&tag) => plain,
            _ => name,
        };
        let found = self.inner.recipes.iter().find(|recipe| recipe.name() == plain);
        found.ok_or_else(|| Error::Unknown(name.chars().take(128).collect()))
    }

    fn state(&self, name: &str) -> TemplateState {
        let slots = self.inner.slots.lock();
        match slots.get(name) {
            Some(Slot { ready: Some(template), .. }) => TemplateState::Ready(template.clone()),
            Some(Slot { flight: Some(flight), .. }) => {
                TemplateState::Building(flight.progress.borrow().clone())
            }
            Some(Slot { error, .. }) => TemplateState::Missing { error: error.clone() },
            None => TemplateState::Missing { error: None },
        }
    }

    /// Joins the build that is under way, or starts one.
    fn join(&self, recipe: &Arc<dyn Recipe>) -> Joined {
        let mut slots = self.inner.slots.lock();
        let slot = slots.entry(recipe.name()).or_default();
        if let Some(template) = &slot.ready {
            return Joined::Ready(template.clone());
        }
        if let Some(flight) = &slot.flight {
            return Joined::Flight(flight.join());
        }
        let flight = Flight {
            progress: watch::Sender::new(Progress { percent: 0, step: "starting".into() }),
            outcome: watch::Sender::new(None),
        };
        let passenger = flight.join();
        slot.flight = Some(flight.clone());
        slot.error = None;
        // Its owners are the passengers: it ends when the last one leaves.
        tokio::spawn(self.inner.clone().fly(recipe.clone(), flight));
        Joined::Flight(passenger)
    }
}

impl Inner {
    async fn fly(self: Arc<Self>, recipe: Arc<dyn Recipe>, flight: Flight) {
        let result = self.make(recipe.as_ref(), &flight).await.map(Arc::new);
        let mut slots = self.slots.lock();
        let slot = slots.entry(recipe.name()).or_default();
        slot.flight = None;
        match &result {
            Ok(template) => slot.ready = Some(template.clone()),
            Err(Error::Cancelled(_)) => {}
            Err(error) => slot.error = Some(error.to_string()),
        }
        flight.outcome.send_replace(Some(result));
    }

    async fn make(&self, recipe: &dyn Recipe, flight: &Flight) -> Result<Template> {
        let name = recipe.name();
        let report = Reporter(flight.progress.clone());
        let waiting = || report.report(0, "waiting for another process that builds");
        let _lock = tokio::select! {
            lock = draft::lock(&self.dir, waiting) => lock?,
            () = flight.outcome.closed() => return Err(Error::Cancelled(name.into())),
        };
        let target = home(&self.dir, recipe);
        if let Some(template) = template::load(&target)? {
            return Ok(template);
        }
        let dir = self.dir.clone();
        let draft = spawn_blocking(move || {
            draft::remove_leftovers(&dir)?;
            Draft::create(&dir)
        });
        let draft = draft.await.map_err(|_| Error::Cancelled(name.into()))??;
        let rootfs = template::rootfs(&draft.content());
        let workshop = Workshop { dir: draft.scratch(), rootfs, report };
        let built = tokio::select! {
            built = recipe.build(&workshop) => built,
            () = flight.outcome.closed() => Err(Error::Cancelled(name.into())),
        };
        let description = match built {
            Ok(description) => description,
            Err(error) => {
                draft.discard().await;
                return Err(error);
            }
        };
        workshop.report.report(98, "writing to disk");
        let id = id_of(name)?;
        let sealed = spawn_blocking(move || {
            let path = draft.content();
            let size = tree::disk_usage(&path).map_err(Error::io("measure", &path))?;
            template::describe(&path, name, id, size, description)?;
            draft.publish(&target)?;
            template::load(&target)
        });
        match sealed.await {
            Ok(template) => template?.ok_or_else(|| Error::NotReady {
                name: name.into(),
                state: "it vanished from the disk".into(),
                retry: true,
            }),
            Err(_) => Err(Error::Cancelled(name.into())),
        }
    }
}

enum Joined {
    Ready(Arc<Template>),
    Flight(Passenger),
}

struct Passenger {
    progress: watch::Receiver<Progress>,
    outcome: watch::Receiver<Option<Result<Arc<Template>>>>,
}

impl Flight {
    fn join(&self) -> Passenger {
        Passenger { progress: self.progress.subscribe(), outcome: self.outcome.subscribe() }
    }
}

impl Passenger {
    async fn wait(mut self, name: &str, progress: &impl Fn(Progress)) -> Result<Arc<Template>> {
        loop {
            tokio::select! {
                biased;
                outcome = self.outcome.wait_for(Option::is_some) => {
                    // The sender only goes away when the runtime does.
                    let cancelled = || Error::Cancelled(name.to_owned());
                    return outcome.ok().and_then(|o| (*o).clone()).ok_or_else(cancelled)?;
                }
                Ok(()) = self.progress.changed() => {
                    let step = self.progress.borrow_and_update().clone();
                    progress(step);
                }
            }
        }
    }
}

/// Where the template that `recipe` makes lies once it is complete.
fn home(dir: &Path, recipe: &dyn Recipe) -> PathBuf {
    dir.join(format!("{}-{}", recipe.name(), recipe.fingerprint()))
}

fn id_of(name: &str) -> Result<TemplateId> {
    name.parse().map_err(|_| Error::Unknown(name.to_owned()))
}

fn not_ready(name: &str, state: impl std::fmt::Display, retry: bool) -> soulbox_model::Error {
    Error::NotReady { name: name.to_owned(), state: state.to_string(), retry }.into()
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
