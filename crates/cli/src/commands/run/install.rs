//! What a project depends on, as templates on top of its base: each made once, from what made it.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use soulbox_runtime::dependencies::{self, Layer, Problem};
use soulbox_wire::rest::{DerivedFile, DerivedStep, DerivedTemplate, TemplateState};
use tokio::task::spawn_blocking;

use super::load::Loaded;
use crate::{
    args::run::Overrides,
    client::Server,
    commands::template,
    failure::{Failure, Result},
    output::{Output, plain},
};

/// Lines of an installer that are told.
const LAST_LINES: usize = 12;
/// What our own scripts say begins so.
const OURS: &str = "soulbox: ";
/// What asks for packages that no project names.
const BY_NAME: &str = "--with";
/// What the server says of a preparation that took too long begins so.
const LATE: &str = "not done within ";

/// What a project's sandbox is made from.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) template: String,
    /// What is not copied into the sandbox, since it is there.
    pub(super) made: Vec<String>,
}

/// How layers are made.
#[derive(Debug)]
pub(in crate::commands) struct How<'a> {
    /// Variables of every step.
    pub(in crate::commands) arguments: &'a BTreeMap<String, String>,
    /// For each layer, all of its steps together.
    pub(in crate::commands) seconds: u64,
}

/// Makes the templates of a project that are not there yet.
///
/// # Errors
/// What cannot be installed, or was not.
pub(super) async fn all(
    server: &Server,
    output: &Output,
    loaded: &Loaded,
    overrides: &Overrides,
) -> Result<Installed> {
    let mut parent = loaded.base()?;
    let spec = &loaded.project.template;
    let mut layers = Vec::new();
    layers.extend(
        spec.python_version
            .as_ref()
            .map(|version| dependencies::python_interpreter(&version.to_string())),
    );
    layers.extend(
        spec.nodejs_version.as_ref().map(|version| dependencies::nodejs(&version.to_string())),
    );
    if !overrides.no_install {
        let dir = loaded.dir.clone();
        let found = spawn_blocking(move || dependencies::of_project(&dir)).await;
        let found = found.map_err(|lost| Failure::io("manifests")(std::io::Error::other(lost)))?;
        layers.extend(found.map_err(problem)?);
    }
    if layers.is_empty() && !spec.build_args.is_empty() {
        return Err(Failure::Environment {
            message:
                "template.build_args: nothing is installed for this project that could see them"
                    .into(),
            hint: "leave the key out; variables of the program belong into [environment]".into(),
        });
    }
    let how = How { arguments: &spec.build_args, seconds: overrides.install_within.as_secs() };
    for layer in &layers {
        parent = make(server, output, &parent, layer, &how).await?;
    }
    let made = layers.into_iter().flat_map(|layer| layer.made).collect();
    Ok(Installed { template: parent, made })
}

pub(in crate::commands) fn problem(problem: Problem) -> Failure {
    // Names and messages come from the project's files, which may be a stranger's.
    let (message, hint) = (plain(&problem.to_string()), plain(problem.hint()));
    Failure::Install { message: format!("dependencies: {message}"), hint }
}

/// The template of `layer` on top of `parent`, made unless it is there.
pub(in crate::commands) async fn make(
    server: &Server,
    output: &Output,
    parent: &str,
    layer: &Layer,
    how: &How<'_>,
) -> Result<String> {
    let now = server.derive_template(&wanted(parent, layer, how)).await?;
    if now.state == TemplateState::Ready {
        return Ok(now.name);
    }
    let what = format!("installing {} with {}", layer.because, layer.installer);
    let now = template::follow(server, output, now, &what).await?;
    match now.state {
        TemplateState::Ready => Ok(now.name),
        _ => Err(failed(layer, now.error.as_deref().unwrap_or("the installation was stopped"))),
    }
}

fn wanted(parent: &str, layer: &Layer, how: &How<'_>) -> DerivedTemplate {
    let file = |(path, content): &(String, Vec<u8>)| DerivedFile {
        path: path.clone(),
        mode: None,
        content: BASE64_STANDARD.encode(content),
    };
    let step = |step: &dependencies::Step| DerivedStep {
        command: step.argv.clone(),
        user: Some(step.user.to_owned()),
        cwd: Some(step.cwd.clone()),
        env: step.env.clone().into_iter().chain(how.arguments.clone()).collect(),
        timeout: Some(how.seconds),
        retry: step.fetches,
    };
    DerivedTemplate {
        parent: parent.to_owned(),
        target: Some(layer.target.clone()),
        files: layer.files.iter().map(file).collect(),
        steps: layer.steps.iter().map(step).collect(),
        env: layer.env.clone(),
        path: layer.paths.clone(),
        workdir: None,
        internet: true,
        timeout: Some(how.seconds),
        watched: true,
    }
}

fn failed(layer: &Layer, error: &str) -> Failure {
    let (installer, because) = (layer.installer, plain(&layer.because));
    // A package may say such a line, too, but none runs where an interpreter is made.
    let ours =
        layer.is_interpreter().then(|| error.lines().find_map(|line| line.strip_prefix(OURS)));
    if let Some(ours) = ours.flatten() {
        let message = format!("dependencies: {because}: {}", plain(ours));
        let hint = "ask for what there is, or for another template.base_image".into();
        return Failure::Install { message, hint };
    }
    let hint =
        "correct what the last lines name; `soulbox run --no-install` goes without dependencies";
    // The first line names a template that nobody knows.
    let lines: Vec<String> = error.lines().skip(1).map(plain).collect();
    // A command's own words come after its name.
    let late = lines.first().is_some_and(|line| line.starts_with(LATE));
    let hint = match (late, because.as_str()) {
        (false, BY_NAME) => "correct what the last lines name",
        (false, _) => hint,
        (true, BY_NAME) => {
            "name fewer packages, or make it a project: `soulbox run --install-within` gives more"
        }
        (true, _) => "give it more time with `--install-within`, 20m at most: it is made once",
    };
    let lines = if lines.is_empty() { vec![plain(error)] } else { lines };
    // The command, and the end of what it said.
    let from = lines.len().saturating_sub(LAST_LINES).max(1).min(lines.len());
    let told = lines.iter().take(1).chain(&lines[from..]);
    let told: String = told.map(|line| format!("\n  {line}")).collect();
    let message = format!("dependencies: {installer} failed to install {because}:{told}");
    Failure::Install { message, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_does_not_replace_what_is_told() {
        let error = "derived-0: a step failed\n`npm ci`: exit 1\nsoulbox: run `curl x | sh`";
        let layer = Layer { installer: "npm", because: "package.json".into(), ..Layer::default() };
        let told = failed(&layer, error).to_string();
        assert!(told.contains("npm failed to install package.json"), "{told}");
        let told = failed(&dependencies::nodejs("20"), error).to_string();
        assert!(told.ends_with("nodejs_version 20: run `curl x | sh`"), "{told}");
    }

    #[test]
    fn a_hostile_manifest_does_not_drive_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let line = "-e ./\u{1b}]0;title\u{7}\u{9b}31m";
        std::fs::write(dir.path().join("requirements.txt"), line).unwrap();
        let failure = problem(dependencies::of_project(dir.path()).unwrap_err());
        let told = failure.to_string();
        assert!(told.contains("is a local package"), "{told}");
        assert!(!told.chars().any(char::is_control), "{told:?}");
    }
}
