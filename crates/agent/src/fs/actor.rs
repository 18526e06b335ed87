//! On whose behalf a request touches files.

use std::path::PathBuf;

use super::error::Result;
use crate::{
    State,
    paths::resolve,
    users::{NoUser, User, Users},
};

/// The acting user, everybody else's names, and where an empty path leads.
#[derive(Debug)]
pub struct Actor {
    pub users: Users,
    pub user: User,
    workdir: Option<String>,
}

/// There is no such user, or nobody can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownUser {
    pub name: String,
    /// Nobody was named, so this was the default user.
    pub is_default: bool,
    pub why: NoUser,
}

impl Actor {
    /// Looks up `name`, or the default user. Reads files: call it on a blocking thread.
    pub fn find(state: &State, name: Option<&str>) -> Result<Self, UnknownUser> {
        let users = Users::load();
        let wanted = name.map_or_else(|| state.default_user(), str::to_owned);
        match users.find(&wanted).cloned() {
            Ok(user) => Ok(Self { users, user, workdir: state.default_workdir() }),
            Err(why) => Err(UnknownUser { name: wanted, is_default: name.is_none(), why }),
        }
    }

    /// What a path in the request leads to; see [`resolve`].
    pub fn resolve(&self, path: &str) -> Result<PathBuf> {
        Ok(resolve(path, &self.user.home, self.workdir.as_deref())?.into())
    }
}
