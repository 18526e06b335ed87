//! The templates of one server: what is there, what is being built, and by which name.

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use soulbox_model::{TeamId, TemplateId};
use tokio::task::spawn_blocking;

use crate::{
    base::Base,
    draft::{self, Draft},
    error::{Error, Result},
    flight::{Flight, Joined},
    host::Host,
    recipe::{Recipe, Reporter, Workshop, fingerprint},
    template::{self, MAX_DEPTH, Progress, Template, TemplateState, TemplateStatus},
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
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) dir: PathBuf,
    pub(crate) slots: Mutex<BTreeMap<String, Slot>>,
}

/// What is known of one template. A build that is under way counts, then one that is ready.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// None for one that was found on the disk, and cannot be made again from here.
    pub(crate) recipe: Option<Arc<dyn Recipe>>,
    pub(crate) ready: Option<Arc<Template>>,
    pub(crate) flight: Option<Flight>,
    pub(crate) error: Option<String>,
    /// When it was last asked for, until that is written down.
    pub(crate) used: Option<SystemTime>,
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
        // Set-user-id files of templates are owned by root here, and some are made by strangers: nobody
        // else of this machine may reach them.
        match tree::make_dir(&dir, 0o700).and_then(|()| draft::try_lock(&dir)) {
            Ok(Some(_lock)) => draft::remove_leftovers(&dir)?,
            Ok(None) => {}
            // A store that its disk's end made read-only has the templates still, and nobody builds there.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                tracing::warn!("templates cannot be built: their store is read-only");
            }
            Err(error) => return Err(error),
        }
        let templates = Self { inner: Arc::new(Inner { dir, slots: Mutex::default() }) };
        for recipe in recipes {
            templates.add(recipe)?;
        }
        templates.find_derived()?;
        Ok(templates)
    }

    /// Makes a template known, so that it can be built, and finds an earlier build of it. A parent must
    /// be known before. Blocks for a moment.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a parent or name that is none; [`Error::Unsupported`] for too many on
    /// top of each other; or if the disk says no.
    pub fn add(&self, recipe: Arc<dyn Recipe>) -> Result<()> {
        let name = recipe.name().to_owned();
        id_of(&name)?;
        let home = self.inner.home(recipe.as_ref())?;
        let ready = template::load(&home)?.map(Arc::new);
        let mut slots = self.inner.slots.lock();
        let slot = slots.entry(name).or_default();
        // A build on top of what was replaced meanwhile is not what this recipe makes.
        slot.ready = ready;
        slot.recipe = Some(recipe);
        slot.forget_files();
        Ok(())
    }

    /// Finds what earlier servers derived for somebody, whose recipe nobody has any more.
    fn find_derived(&self) -> Result<()> {
        let dir = &self.inner.dir;
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            // The lock lies there, too.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let found = match template::load(&path) {
                Ok(Some(found)) if found.team.is_some() => found,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "left out a damaged template");
                    continue;
                }
            };
            let mut slots = self.inner.slots.lock();
            let slot = slots.entry(found.name.clone()).or_default();
            slot.ready.get_or_insert_with(|| Arc::new(found));
        }
        Ok(())
    }

    /// Finds a template by its name or id, with or without a tag.
    ///
    /// # Errors
    /// [`Error::Unknown`], or [`Error::NotReady`] with how far its build is; both as the
    /// platform's error.
    pub fn resolve(&self, name_or_id: &str) -> Result<Arc<Template>, soulbox_model::Error> {
        let name = plain(name_or_id);
        let mut slots = self.inner.slots.lock();
        let slot = slots.get_mut(name).ok_or_else(|| unknown(name_or_id))?;
        match slot.state() {
            TemplateState::Ready(template) => {
                slot.used = Some(SystemTime::now());
                Ok(template)
            }
            TemplateState::Building(progress) => Err(not_ready(name, progress, true)),
            TemplateState::Missing { error: Some(error) } => {
                Err(not_ready(name, format_args!("its build failed: {error}"), false))
            }
            TemplateState::Missing { error: None } => {
                Err(not_ready(name, "it has not been built yet", true))
            }
        }
    }

    /// Like [`Templates::resolve`], for a caller of `team`.
    ///
    /// # Errors
    /// As for one that is not there where it belongs to another team.
    pub fn resolve_for(
        &self,
        team: TeamId,
        name_or_id: &str,
    ) -> Result<Arc<Template>, soulbox_model::Error> {
        let status = self.find(name_or_id)?;
        if status.team.is_some_and(|owner| owner != team) {
            return Err(unknown(name_or_id).into());
        }
        self.resolve(name_or_id)
    }

    /// What is known of one template, built or not.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn find(&self, name_or_id: &str) -> Result<TemplateStatus> {
        let name = plain(name_or_id);
        let slots = self.inner.slots.lock();
        let found = slots.get(name).and_then(|slot| slot.status(name));
        found.ok_or_else(|| unknown(name_or_id))
    }

    /// Every template that there could be.
    pub fn list(&self) -> Vec<TemplateStatus> {
        let slots = self.inner.slots.lock();
        slots.iter().filter_map(|(name, slot)| slot.status(name)).collect()
    }

    /// Makes a template unless it is there. Everybody who asks at the same time waits for the same
    /// build, and `progress` is called at every step of it. It is cancelled, and leaves nothing,
    /// when the last of these futures is dropped.
    ///
    /// # Errors
    /// What stopped the build, with what to do about it.
    pub async fn build(&self, name: &str, progress: impl Fn(Progress)) -> Result<Arc<Template>> {
        loop {
            let flight = match self.join(name)? {
                Joined::Ready(template) => return Ok(template),
                Joined::Flight(flight) => flight,
            };
            match flight.wait(plain(name), &progress).await {
                // Cancelled by others just when this one joined.
                Err(Error::Cancelled(_)) => tokio::task::yield_now().await,
                result => return result,
            }
        }
    }

    /// Starts a build unless there is one, so that [`Templates::find`] tells of it at once. It goes on as
    /// long as somebody waits for it, with the future of this or with [`Templates::build`].
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn start(
        &self,
        name: &str,
    ) -> Result<impl Future<Output = Result<Arc<Template>>> + Send + use<>> {
        let (joined, templates, name) = (self.join(name)?, self.clone(), name.to_owned());
        Ok(async move {
            let flight = match joined {
                Joined::Ready(template) => return Ok(template),
                Joined::Flight(flight) => flight,
            };
            match flight.wait(plain(&name), &|_| ()).await {
                Err(Error::Cancelled(_)) => templates.build(&name, |_| ()).await,
                result => result,
            }
        })
    }

    /// Stops the build of a template for all who wait for it, and returns when nothing is left of it. False
    /// if there is none.
    pub async fn stop(&self, name: &str) -> bool {
        let flight = {
            let slots = self.inner.slots.lock();
            slots.get(plain(name)).and_then(|slot| slot.flight.clone())
        };
        let Some(flight) = flight else { return false };
        let passenger = flight.join();
        flight.stop();
        // It may have been done at this moment.
        let _ = passenger.wait(plain(name), &|_| ()).await;
        true
    }

    /// Joins the build that is under way, or starts one.
    fn join(&self, name: &str) -> Result<Joined> {
        let mut slots = self.inner.slots.lock();
        let slot = slots.get_mut(plain(name)).ok_or_else(|| unknown(name))?;
        if let Some(template) = &slot.ready {
            return Ok(Joined::Ready(template.clone()));
        }
        if let Some(flight) = &slot.flight {
            return Ok(Joined::Flight(flight.join()));
        }
        let recipe = slot.recipe.clone().ok_or_else(|| unknown(name))?;
        let flight = Flight::new();
        let passenger = flight.join();
        slot.flight = Some(flight.clone());
        slot.error = None;
        // Its owners are the passengers: it ends when the last one leaves.
        tokio::spawn(self.clone().fly(recipe, flight));
        Ok(Joined::Flight(passenger))
    }

    async fn fly(self, recipe: Arc<dyn Recipe>, flight: Flight) {
        let result = self.make(recipe.as_ref(), &flight).await.map(Arc::new);
        let mut slots = self.inner.slots.lock();
        let slot = slots.entry(recipe.name().to_owned()).or_default();
        slot.flight = None;
        match &result {
            Ok(template) => {
                slot.ready = Some(template.clone());
                slot.forget_files();
            }
            Err(Error::Cancelled(_)) => {}
            Err(error) => slot.error = Some(error.to_string()),
        }
        flight.outcome.send_replace(Some(result));
    }

    async fn make(&self, recipe: &dyn Recipe, flight: &Flight) -> Result<Template> {
        let name = recipe.name();
        let inner = &self.inner;
        let report = Reporter(flight.progress.clone());
        let parent = match recipe.parent() {
            None => None,
            Some(parent) => Some(tokio::select! {
                // Boxed: a build that waits for a build.
                built = Box::pin(self.build(parent, |progress| {
                    // Shown as one step, so that what comes after does not go backwards.
                    report.report(0, format!("{parent}: {progress}"));
                })) => built?,
                error = flight.given_up(name) => return Err(error),
            }),
        };
        let waiting = || report.report(0, "waiting for another process that builds");
        // Those of one server that derive wait for each other by their flights.
        let _lock = tokio::select! {
            lock = draft::lock(&inner.dir, parent.is_some(), waiting) => lock?,
            error = flight.given_up(name) => return Err(error),
        };
        let target = inner.home(recipe)?;
        if let Some(template) = template::load(&target)? {
            return Ok(template);
        }
        let (dir, alone) = (inner.dir.clone(), parent.is_none());
        let draft = spawn_blocking(move || {
            if alone {
                draft::remove_leftovers(&dir)?;
            }
            Draft::create(&dir)
        });
        let draft = draft.await.map_err(|_| Error::Cancelled(name.into()))??;
        let rootfs = template::rootfs(&draft.content());
        let hold = Arc::default();
        let workshop = Workshop { dir: draft.scratch(), rootfs, parent, hold, report };
        let built = tokio::select! {
            built = recipe.build(&workshop) => built,
            error = flight.given_up(name) => Err(error),
        };
        let description = match built {
            Ok(description) => description,
            Err(error) => {
                drop(workshop.hold.lock().await);
                draft.discard().await;
                return Err(error);
            }
        };
        workshop.report.report(98, "writing to disk");
        let (owned, id, team) = (name.to_owned(), id_of(name)?, recipe.team());
        let parent = workshop.parent;
        let sealed = spawn_blocking(move || {
            let path = draft.content();
            let size = match description.size_bytes {
                Some(size) => size,
                None => tree::disk_usage(&path).map_err(Error::io("measure", &path))?,
            };
            template::describe(&path, (&owned, id, team), parent.as_deref(), size, description)?;
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

impl Slot {
    fn status(&self, name: &str) -> Option<TemplateStatus> {
        let ready = self.ready.as_ref();
        let parent = match &self.recipe {
            Some(recipe) => recipe.parent(),
            None => ready.and_then(|template| template.parent.as_deref()),
        };
        Some(TemplateStatus {
            id: id_of(name).ok()?,
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            team: self.team(),
            state: self.state(),
            began: self.flight.as_ref().map(|flight| flight.began),
        })
    }

    /// What a team derived is found on the disk once it is there; its recipe holds the files of a client.
    fn forget_files(&mut self) {
        if self.ready.is_some() && self.team().is_some() {
            self.recipe = None;
        }
    }

    /// Who alone may use it.
    pub(crate) fn team(&self) -> Option<TeamId> {
        match &self.recipe {
            Some(recipe) => recipe.team(),
            None => self.ready.as_ref().and_then(|template| template.team),
        }
    }

    fn state(&self) -> TemplateState {
        match self {
            Self { ready: Some(template), .. } => TemplateState::Ready(template.clone()),
            Self { flight: Some(flight), .. } => {
                TemplateState::Building(flight.progress.borrow().clone())
            }
            Self { error, .. } => TemplateState::Missing { error: error.clone() },
        }
    }
}

impl Inner {
    /// Where the template that `recipe` makes lies once it is complete.
    pub(crate) fn home(&self, recipe: &dyn Recipe) -> Result<PathBuf> {
        Ok(self.dir.join(self.home_name(recipe, 0)?))
    }

    /// Says all that the template is made of: its own recipe and everything below.
    fn home_name(&self, recipe: &dyn Recipe, depth: usize) -> Result<String> {
        let (name, own) = (recipe.name(), recipe.fingerprint());
        let Some(parent) = recipe.parent() else { return Ok(format!("{name}-{own}")) };
        if depth == MAX_DEPTH {
            return Err(too_deep());
        }
        let (recipe, found) = {
            let slots = self.slots.lock();
            let slot = slots.get(plain(parent)).ok_or_else(|| unknown(parent))?;
            (slot.recipe.clone(), slot.ready.clone())
        };
        let below = match (recipe, found) {
            (Some(recipe), _) => self.home_name(recipe.as_ref(), depth + 1)?,
            (None, Some(found)) if depth + found.layers.len() > MAX_DEPTH => return Err(too_deep()),
            (None, Some(found)) => found.home.clone(),
            (None, None) => return Err(unknown(parent)),
        };
        Ok(format!("{name}-{}", fingerprint([own, below])))
    }
}

/// A name without the tag that means the one build there is.
fn plain(name: &str) -> &str {
    match name.split_once(':') {
        Some((plain, tag)) if TAGS.contains(&tag) => plain,
        _ => name,
    }
}

fn unknown(name: &str) -> Error {
    Error::Unknown(name.chars().take(128).collect())
}

fn too_deep() -> Error {
    Error::Unsupported(format!("more than {MAX_DEPTH} templates on top of each other"))
}

fn id_of(name: &str) -> Result<TemplateId> {
    name.parse().map_err(|_| unknown(name))
}

fn not_ready(name: &str, state: impl std::fmt::Display, retry: bool) -> soulbox_model::Error {
    Error::NotReady { name: name.to_owned(), state: state.to_string(), retry }.into()
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
