//! Packages by name, for code that belongs to no project.

use super::{Layer, Problem, Result, node::npm_env, python::PIP};
use crate::adapters::DIRECTORY;

const MAX_PACKAGES: usize = 64;

/// What `soulbox exec --with` puts beside the code of a runtime; none where the runtime takes no packages.
///
/// # Errors
/// For a name that is none.
pub fn of_runtime(runtime: &str, names: &[String]) -> Result<Option<Layer>> {
    for name in names {
        let remote = name.contains("://") || name.contains('@');
        let local = name.starts_with(['-', '.', '/', '~']) || (name.contains('/') && !remote);
        if name.is_empty() || local || name.chars().any(char::is_control) {
            let message = format!("`{}` is no package", name.escape_debug());
            return Err(Problem::in_file("--with", message, "name packages of the registry"));
        }
    }
    if names.len() > MAX_PACKAGES {
        let message = format!("more than {MAX_PACKAGES} packages");
        return Err(Problem::in_file("--with", message, "make it a project with a manifest"));
    }
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    Ok(match runtime {
        "python" => Some(python(&sorted)),
        "node" => Some(modules("npm", &["npm", "install", "--no-package-lock"], &sorted)),
        "bun" => Some(modules("bun", &["bun", "add", "--no-save"], &sorted)),
        _ => None,
    })
}

fn python(names: &[&str]) -> Layer {
    let venv = format!("{DIRECTORY}/.venv");
    let mut layer = Layer {
        installer: "pip",
        because: "--with".to_owned(),
        target: "/tmp".to_owned(),
        paths: vec![format!("{venv}/bin")],
        env: [("VIRTUAL_ENV".to_owned(), venv.clone())].into(),
        ..Layer::default()
    };
    layer.step("user", DIRECTORY, &["python3", "-m", "venv", &venv]);
    let program = format!("{venv}/bin/pip");
    layer.step("user", DIRECTORY, &[&[program.as_str(), "install"], names].concat()).fetching(&PIP);
    layer
}

fn modules(installer: &'static str, command: &[&str], names: &[&str]) -> Layer {
    let mut layer = Layer {
        installer,
        because: "--with".to_owned(),
        target: DIRECTORY.to_owned(),
        files: vec![("package.json".to_owned(), b"{}".to_vec())],
        ..Layer::default()
    };
    layer.step(
        "root",
        "/",
        &["chown", "user:user", DIRECTORY, &format!("{DIRECTORY}/package.json")],
    );
    let step = layer.step("user", DIRECTORY, &[command, names].concat());
    step.fetching(npm_env());
    step.env.insert("BUN_INSTALL_CACHE_DIR".to_owned(), "/tmp/.soulbox-bun".to_owned());
    layer
}
