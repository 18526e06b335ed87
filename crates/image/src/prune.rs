//! Taking templates away that nobody needs.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File, FileTimes},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use soulbox_model::{TeamId, TemplateId};

use crate::{
    draft,
    error::{Error, Result},
    recipe::Recipe,
    template::{self, META, Template},
    templates::{Slot, Templates},
};

/// Derived templates that one team may have at a time.
const MAX_DERIVED: usize = 256;
/// Bytes of files for those that are not built yet, of one team.
const MAX_HELD: usize = 128 << 20;

type Slots = BTreeMap<String, Slot>;

/// Which templates [`Templates::take_unused`] takes.
#[derive(Debug, Clone, Copy)]
pub struct Unused {
    /// Not asked for in this time.
    pub since: Duration,
    /// Those of this team besides those of everybody.
    pub team: TeamId,
}

impl Templates {
    /// Forgets the derived templates that are unused, parents of others only after these, so that
    /// nobody finds them any more. Then [`Templates::delete`] removes each. `in_use` says whether a
    /// sandbox stands on a template.
    pub fn take_unused(
        &self,
        unused: Unused,
        in_use: impl Fn(&TemplateId) -> bool,
    ) -> Vec<Arc<Template>> {
        let mut taken = Vec::new();
        let mut slots = self.inner.slots.lock();
        forget_vain(&mut slots, unused.team);
        loop {
            let parents: HashSet<String> = slots
                .values()
                .flat_map(|slot| {
                    let ready = slot.ready.as_ref().and_then(|ready| ready.parent.clone());
                    // What is being built stands on its parent already.
                    let built = slot.flight.as_ref().and(slot.recipe.as_ref());
                    let built = built.and_then(|recipe| recipe.parent().map(str::to_owned));
                    [ready, built]
                })
                .flatten()
                .collect();
            let found = slots.iter().find_map(|(name, slot)| {
                let ready = slot.ready.as_ref()?;
                let free = ready.parent.is_some()
                    && ready.is_for(unused.team)
                    && !parents.contains(name)
                    // Whoever makes a sandbox of it, or lists it, holds it.
                    && Arc::strong_count(ready) == 1
                    && self.is_older(slot.used, ready, unused.since)
                    && !in_use(&ready.id);
                free.then(|| name.clone())
            });
            let Some(name) = found else { return taken };
            let Some(slot) = slots.get_mut(&name) else { return taken };
            taken.extend(slot.ready.take());
            if slot.recipe.as_ref().is_none_or(|recipe| recipe.team().is_some()) {
                slots.remove(&name);
            }
        }
    }

    /// Removes from the disk what was taken, when no engine holds it any more. Blocks.
    ///
    /// # Errors
    /// If the disk says no; the next start tries again.
    pub fn delete(&self, template: &Template) -> Result<()> {
        draft::remove_complete(&self.inner.dir, &template.home)
    }

    /// Builds that a newer version of SoulBox, or a change of what they stand on, has replaced, and
    /// on which no sandbox stands. Blocks.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn outdated(&self, in_use: impl Fn(&TemplateId) -> bool) -> Result<Vec<Template>> {
        let dir = &self.inner.dir;
        // Somebody who builds may be about to publish.
        let Some(_lock) = draft::try_lock(dir)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
            let path = entry.map_err(Error::io("list", dir))?.path();
            // Broken ones are left for people to look at.
            let Ok(Some(template)) = template::load(&path) else { continue };
            let current = self.current_home(&template.name);
            let current = current.is_some_and(|current| current == template.home);
            if !current && !in_use(&template.id) {
                found.push(template);
            }
        }
        Ok(found)
    }

    /// Whether a team may derive `more`. What it derived in vain is forgotten where that makes room.
    ///
    /// # Errors
    /// [`Error::Full`] when it has as many derived templates as it may; [`Error::Busy`] when those that
    /// are not built yet hold too much memory.
    pub fn check_room(&self, team: TeamId, more: &dyn Recipe) -> Result<()> {
        let mut slots = self.inner.slots.lock();
        if room(&slots, team, more).is_ok() {
            return Ok(());
        }
        forget_vain(&mut slots, team);
        room(&slots, team, more)
    }

    /// Writes down which templates were used, for the next server. Blocks.
    pub fn save_uses(&self) {
        let used: Vec<(PathBuf, SystemTime)> = {
            let mut slots = self.inner.slots.lock();
            let derived = slots.values_mut().filter_map(|slot| {
                let ready = slot.ready.as_ref().filter(|ready| ready.parent.is_some())?;
                Some((self.inner.dir.join(&ready.home).join(META), slot.used.take()?))
            });
            derived.collect()
        };
        for (path, time) in used {
            let written = File::open(&path)
                .and_then(|file| file.set_times(FileTimes::new().set_modified(time)));
            if let Err(error) = written {
                tracing::debug!(path = %path.display(), %error, "could not note a use");
            }
        }
    }

    /// The directory of the template that is meant by `name` now, built or not.
    fn current_home(&self, name: &str) -> Option<String> {
        let recipe = {
            let slots = self.inner.slots.lock();
            let slot = slots.get(name)?;
            match &slot.ready {
                Some(ready) => return Some(ready.home.clone()),
                None => slot.recipe.clone()?,
            }
        };
        let home = self.inner.home(recipe.as_ref()).ok()?;
        Some(home.file_name()?.to_string_lossy().into_owned())
    }

    fn is_older(&self, used: Option<SystemTime>, ready: &Template, than: Duration) -> bool {
        let written = || {
            let meta = fs::metadata(self.inner.dir.join(&ready.home).join(META)).ok()?;
            meta.modified().ok()
        };
        let Some(used) = used.or_else(written) else { return true };
        used.elapsed().is_ok_and(|age| age >= than)
    }
}

fn room(slots: &Slots, team: TeamId, more: &dyn Recipe) -> Result<()> {
    let others = slots.iter().filter(|(name, _)| *name != more.name());
    let others = others.filter(|(_, slot)| slot.team() == Some(team));
    let (count, held) = others.fold((0, more.weight()), |(count, held), (_, slot)| {
        (count + 1, held + slot.recipe.as_ref().map_or(0, |recipe| recipe.weight()))
    });
    match () {
        () if count >= MAX_DERIVED => Err(Error::Full(MAX_DERIVED)),
        () if held > MAX_HELD => Err(Error::Busy(MAX_HELD >> 20)),
        () => Ok(()),
    }
}

/// Those of the team that are not there, and that nobody builds: failed, or given up.
fn forget_vain(slots: &mut Slots, team: TeamId) {
    slots.retain(|_, slot| {
        let vain = slot.ready.is_none() && slot.flight.is_none();
        slot.team() != Some(team) || !vain
    });
}
