//! Builds the agent that the server starts in every sandbox, and tells the crate where it is.
//!
//! The agent must be static, so that it runs in any root file system. The flag for that breaks
//! procedural macros unless it is kept off the host's side of the build, which cargo does only for
//! an explicit `--target`: hence a second cargo with a target directory of its own. Packagers that
//! build the agent themselves set `SOULBOX_AGENT_BIN` to its path.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the agent is made of, relative to the workspace.
const SOURCES: [&str; 8] = [
    "crates/agent",
    "crates/linger",
    "crates/model",
    "crates/sys",
    "crates/wire",
    "Cargo.lock",
    "Cargo.toml",
    "rust-toolchain.toml",
];

fn main() -> ExitCode {
    match agent() {
        Ok(path) => {
            println!("cargo::rustc-env=SOULBOX_AGENT={}", path.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn agent() -> Result<PathBuf, String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOULBOX_AGENT_BIN");
    if let Some(given) = env::var_os("SOULBOX_AGENT_BIN") {
        let path = PathBuf::from(given);
        println!("cargo::rerun-if-changed={}", path.display());
        return match path.canonicalize() {
            Ok(path) if path.is_file() => Ok(path),
            _ => Err(format!("SOULBOX_AGENT_BIN: {} is not a file", path.display())),
        };
    }

    let workspace = workspace()?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let built = build(&workspace)?;
    // Beside `soulbox`, for those who want to look at it.
    let shown = profile_dir()?.join("soulbox-agent");
    replace(&built, &shown).map_err(|error| format!("{}: {error}", shown.display()))?;
    let embedded = PathBuf::from(required("OUT_DIR")?).join("soulbox-agent");
    replace(&built, &embedded).map_err(|error| format!("{}: {error}", embedded.display()))?;
    Ok(embedded)
}

fn build(workspace: &Path) -> Result<PathBuf, String> {
    let release = required("PROFILE")? == "release";
    let profile = if release { "agent" } else { "agent-dev" };
    let target_dir = profile_dir()?
        .parent()
        .map(|dir| dir.join("agent"))
        .ok_or_else(|| "OUT_DIR has no target directory above it".to_owned())?;

    let mut cargo = Command::new(required("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--package", "soulbox-agent", "--bin", "soulbox-agent"])
        .args(["--features", "bin", "--profile", profile, "--target", TARGET])
        .arg("--target-dir")
        .arg(&target_dir);
    if workspace.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    // What the outer cargo tells its children would give the inner one other flags, another
    // linter or another directory.
    for (name, _) in env::vars_os() {
        if inherited_from_cargo(&name) {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");

    let output = cargo.output().map_err(|error| format!("cargo for the agent: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "building soulbox-agent failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(target_dir.join(TARGET).join(profile).join("soulbox-agent"))
}

fn inherited_from_cargo(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    const EXACT: [&str; 13] = [
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "PROFILE",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "TARGET",
    ];
    const PREFIX: [&str; 7] = [
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
    ];
    EXACT.contains(&name) || PREFIX.iter().any(|prefix| name.starts_with(prefix))
}

/// Copies under another name first: a reader never sees half a file, and a running one keeps its own.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let staged = to.with_extension("new");
    fs::copy(from, &staged)?;
    fs::rename(staged, to)
}

fn workspace() -> Result<PathBuf, String> {
    let manifest = PathBuf::from(required("CARGO_MANIFEST_DIR")?);
    manifest
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} is not in a workspace", manifest.display()))
}

/// `target/<profile>`: three above `build/<package>/out`.
fn profile_dir() -> Result<PathBuf, String> {
    let out = PathBuf::from(required("OUT_DIR")?);
    out.ancestors()
        .nth(3)
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} is not below a target directory", out.display()))
}

fn required(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set: run this through cargo"))
}
