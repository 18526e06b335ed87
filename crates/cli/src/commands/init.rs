//! `soulbox init`: from what lies in a directory to a project file.

use serde_json::json;
use soulbox_runtime::detect::{self, Detection, Evidence, starter};
use soulbox_spec::{
    ProjectDir,
    init::{Starter, name_for},
    value,
};

use crate::{
    args::project::Init,
    failure::{Failure, Result},
    output::plain,
    settings::Settings,
};

pub(super) fn run(settings: &Settings, args: Init) -> Result<()> {
    let dir = ProjectDir::open(&args.directory)?;
    if !args.force && dir.file().symlink_metadata().is_ok() {
        return Err(Failure::Usage {
            message: format!("{} is there already", dir.file().display()),
            hint: Some("change it with `soulbox config set`, or write over it with --force".into()),
        });
    }
    let mut found = detect::detect(&args.directory)
        .map_err(|error| Failure::io(error.path.display().to_string())(error.source))?;
    if let Some(runtime) = args.runtime {
        found.rule = format!("{runtime}: --runtime says so");
        found.runtime = Some(runtime);
    }
    let name = match args.name {
        Some(name) => value::label(&name).map_err(|wrong| {
            Failure::usage(format!("--name {}: expected {}", wrong.why, wrong.expected))
        })?,
        None => {
            let whole = args.directory.canonicalize().unwrap_or_else(|_| args.directory.clone());
            name_for(&whole.file_name().unwrap_or_default().to_string_lossy())
        }
    };
    let commands = starter::commands(&args.directory, &found);
    let because = vec![
        format!("Runtime: {}", plain(&found.rule)),
        format!("Start: {}", plain(&commands.because)),
    ];
    let starter = Starter {
        name,
        base_image: found.runtime.map_or("base", |runtime| runtime.template()).to_owned(),
        nodejs_version: commands.nodejs_version.map(str::to_owned),
        because,
        start: commands.start,
        ready: commands.ready,
        test: commands.test,
        port: commands.port,
        memory: commands.memory.map(str::to_owned),
        environment: commands
            .environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    };
    dir.write(&starter.text(), args.force)?;
    said(settings, &dir, &starter, &found, &commands.remarks)
}

fn said(
    settings: &Settings,
    dir: &ProjectDir,
    starter: &Starter,
    found: &Detection,
    remarks: &[String],
) -> Result<()> {
    let output = &settings.output;
    if output.json {
        return output.value(&json!({
            "file": dir.file(),
            "name": starter.name,
            "base_image": starter.base_image,
            "nodejs_version": starter.nodejs_version,
            "start": starter.start,
            "ready": starter.ready,
            "test": starter.test,
            "port": starter.port,
            "because": starter.because,
            "remarks": remarks,
            "detection": found,
        }));
    }
    output.line(dir.file().display())?;
    for line in &starter.because {
        output.note(format!("  {line}"));
    }
    for Evidence { file, reason, .. } in found.evidence.iter().skip(1).take(5) {
        output.note(format!("  also: {} ({reason})", plain(file)));
    }
    for remark in remarks {
        output.note(plain(remark));
    }
    output.note("Look it over, then start it with `soulbox run`; `soulbox config check` says what is wrong with it.");
    Ok(())
}
