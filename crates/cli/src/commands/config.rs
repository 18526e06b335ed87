//! `soulbox config …`.

use std::path::Path;

use serde_json::json;
use soulbox_spec::{Against, ProjectDir, edit, schema, show};

use super::project::{cores, load, overrides};
use crate::{
    args::project::{Config, ProjectArgs},
    failure::{Failure, Result},
    settings::Settings,
};

/// Rules go by the name that a program calls.
const OPEN: &str = "`network.requests` has rules for names, and a program that calls a host by its address is not held to \
                    them: set `network.allow_internet = false` and name what it may reach in `network.allow_out`";

pub(super) fn run(settings: &Settings, command: Config) -> Result<()> {
    match command {
        Config::Check(args) => check(settings, &args),
        Config::Show(args) => {
            let (_, project) = load(&args, cores(settings))?;
            if settings.output.json {
                return settings.output.value(&show::json(&project));
            }
            settings.output.line(show::toml(&project).trim_end())
        }
        Config::Set { directory, values } => set(settings, &directory, &values),
        Config::Schema => settings.output.value(&schema::schema()),
    }
}

fn check(settings: &Settings, args: &ProjectArgs) -> Result<()> {
    let output = &settings.output;
    match load(args, cores(settings)) {
        Ok((dir, project)) => {
            let file = dir.file().display().to_string();
            let secrets = project.secrets();
            let warnings = Vec::from_iter(project.network.is_open_beside_rules().then_some(OPEN));
            if output.json {
                let none: [(); 0] = [];
                let said = json!({
                    "valid": true, "file": file, "problems": none, "warnings": warnings, "secrets": secrets,
                });
                return output.value(&said);
            }
            output.line(format!("{file} is right"))?;
            warnings.iter().for_each(|warning| output.note(format!("warning: {warning}")));
            if !secrets.is_empty() {
                output
                    .note(format!("It wants these secrets when it starts: {}", secrets.join(", ")));
            }
            Ok(())
        }
        Err(Failure::Project(wrong)) if output.json => {
            let file = args.directory.join(soulbox_spec::FILE_NAME).display().to_string();
            let said = json!({"valid": false, "file": file, "problems": wrong.to_json()});
            output.value(&said)?;
            Err(Failure::Exit(2))
        }
        Err(failure) => Err(failure),
    }
}

fn set(settings: &Settings, directory: &Path, values: &[String]) -> Result<()> {
    let dir = ProjectDir::open(directory)?;
    let before = dir.read()?;
    let typed: Vec<_> = overrides(values)?.into_iter().filter(|o| o.origin == "--set").collect();
    let after = edit::apply(&before, &typed).map_err(soulbox_model::Error::from)?;
    dir.check(&after, &Against::default()).map_err(|wrong| Failure::Project(Box::new(wrong)))?;
    dir.write(&after, true)?;
    settings.output.note(format!("{} is changed", dir.file().display()));
    if settings.output.json {
        settings.output.value(&json!({"file": dir.file(), "set": values}))?;
    }
    Ok(())
}
