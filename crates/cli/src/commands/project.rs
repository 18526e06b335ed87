//! The project that a command is about.

use soulbox_spec::{Against, Override, Project, ProjectDir};

use crate::{
    args::project::ProjectArgs,
    client::is_here,
    failure::{Failure, Result},
    settings::Settings,
};

/// What overrides keys: the environment, then `--set`.
///
/// # Errors
/// For one that names no key.
pub(crate) fn overrides(set: &[String]) -> Result<Vec<Override>> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let usage = |error: soulbox_spec::overrides::NotAnOverride| Failure::usage(error.to_string());
    let mut all = Override::from_environment(variables).map_err(usage)?;
    for text in set {
        all.push(Override::set(text).map_err(usage)?);
    }
    Ok(all)
}

/// The project of a directory, held against `cores` where they are known.
///
/// # Errors
/// When there is none, or with everything that is wrong with it.
pub(crate) fn load(args: &ProjectArgs, cores: Option<u32>) -> Result<(ProjectDir, Project)> {
    let dir = ProjectDir::open(&args.directory)?;
    let against = Against { overrides: overrides(&args.set)?, cores };
    let project = dir.load(&against)?;
    Ok((dir, project))
}

/// Those of the machine that projects run on, where that is this one. Another server says itself what it has.
pub(crate) fn cores(settings: &Settings) -> Option<u32> {
    let cores = std::thread::available_parallelism().ok().filter(|_| is_here(settings))?;
    u32::try_from(cores.get()).ok()
}
