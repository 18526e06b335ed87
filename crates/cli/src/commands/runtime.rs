//! `soulbox runtime …`.

use serde::Serialize;
use soulbox_runtime::adapters::{self, Switch};

use crate::{args::exec::Runtime, failure::Result, settings::Settings};

#[derive(Serialize)]
struct Row {
    name: &'static str,
    about: &'static str,
    template: &'static str,
    options: &'static [Switch],
}

pub(super) fn run(settings: &Settings, command: &Runtime) -> Result<()> {
    let Runtime::List = command;
    let output = &settings.output;
    let rows = adapters::all().iter().map(|adapter| Row {
        name: adapter.name(),
        about: adapter.about(),
        template: adapter.template(),
        options: adapter.understands(),
    });
    if output.json {
        return output.value(&rows.collect::<Vec<_>>());
    }
    let rows = rows.map(|row| [row.name, row.template, row.about].map(str::to_owned).into());
    output.table(&["NAME", "TEMPLATE", "WHAT IT IS"], rows.collect())
}
