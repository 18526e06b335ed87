//! `soulbox sandbox …`.

pub(crate) mod archive;
mod cp;
pub(super) mod ended;
pub(super) mod exec;
pub(super) mod lifecycle;
mod net;
mod observe;
mod requests;
pub(super) mod session;
mod terminal;
mod url;

use crate::{args::sandbox::Sandbox, client::locate, failure::Result, settings::Settings};

pub(super) async fn run(settings: &Settings, command: Sandbox) -> Result<()> {
    let server = locate(settings)?;
    let output = &settings.output;
    match command {
        Sandbox::Create(args) => lifecycle::create(&server, output, args).await,
        Sandbox::List(args) => lifecycle::list(&server, output, args).await,
        Sandbox::Info { id } => lifecycle::info(&server, output, &id).await,
        Sandbox::Kill(args) => lifecycle::kill(&server, output, args).await,
        Sandbox::Exec(args) => exec::exec(&server, output, args).await,
        Sandbox::Shell(args) => exec::shell(&server, output, args).await,
        Sandbox::Cp(args) => cp::run(&server, output, args).await,
        Sandbox::Logs(args) => observe::logs(&server, output, args).await,
        Sandbox::Net(args) => net::run(&server, output, args).await,
        Sandbox::Url(args) => url::run(&server, output, args).await,
        Sandbox::Requests(args) => requests::run(&server, output, args).await,
        Sandbox::Metrics { id } => observe::metrics(&server, output, &id).await,
    }
}
