//! The daemon inside a sandbox: PID 1, processes, files, terminals.
//!
//! It answers the requests that E2B clients make to a sandbox (`process.Process`,
//! `filesystem.Filesystem`, `/files`, …) and reaps what exits. It decides nothing about the
//! sandbox itself: limits, isolation and lifetime are the engine's, and nothing that happens
//! here may be trusted outside. Everything runs on one thread.
//!
//! Start reading at [`server`] (who may ask what), then [`process`] or [`fs`] and [`files`];
//! [`boot`] tells how a bare process becomes a sandbox.

// The generated traits promise less about the messages than every implementation gives.
#![allow(refining_impl_trait)]

pub mod auth;
pub mod boot;
pub mod files;
pub mod fs;
#[doc(hidden)]
pub mod fuzzing;
pub mod init;
pub mod log;
pub mod metrics;
pub mod paths;
pub mod process;
pub mod reply;
pub mod server;
pub mod state;
mod trust;
pub mod users;
mod warm;

use std::{fmt, io, net::TcpListener, os::unix::net::UnixListener, sync::Arc};

use soulbox_model::boot::AgentConfig;

use process::reaper::{self, Scope};
pub use state::{Settings, State};

/// A sandbox that [`boot`] has entered: what [`serve`] needs.
pub struct Sandbox {
    pub config: AgentConfig,
    /// For clients, through the gateway: the access token is checked.
    pub clients: UnixListener,
    /// For the server alone: no token is checked, private routes are served.
    pub control: UnixListener,
    /// Port 49983 inside the sandbox: the access token is checked.
    pub tcp: Option<TcpListener>,
    /// Called once every listener is served.
    pub ready: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Everything that a sandbox answers with, made before it is known which sandbox it will be.
#[derive(Debug)]
pub struct Server {
    state: Arc<State>,
    routers: server::Routers,
}

impl Default for Server {
    fn default() -> Self {
        let state = Arc::new(State::new(Settings::default()));
        Self { routers: server::Routers::new(Arc::clone(&state)), state }
    }
}

/// Serves a sandbox as its PID 1, until the process is killed.
///
/// Must run on a `current_thread` Tokio runtime with I/O and time enabled.
///
/// # Errors
/// A listener that cannot be served.
pub async fn serve(server: Server, sandbox: Sandbox) -> io::Result<()> {
    let Sandbox { config, clients, control, tcp, ready } = sandbox;
    let Server { state, routers } = server;
    state.with_settings(|settings| *settings = config.into());
    let _reaper = reaper::spawn(state, Scope::of_this_process())?;
    let clients = server::Listener::unix(clients)?;
    let control = server::Listener::unix(control)?;
    let tcp = tcp.map(server::Listener::tcp).transpose()?;
    ready();
    // The first of the threads for files, before anybody inside can take all that a sandbox may
    // have: the runtime gives up where it cannot make one.
    let _first = tokio::task::spawn_blocking(|| {});
    let inside = async {
        match tcp {
            Some(tcp) => tcp.serve(routers.clients.clone()).await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(
        clients.serve(routers.clients.clone()),
        control.serve(routers.control.clone()),
        inside
    );
    Ok(())
}

/// Serves this machine on one listener, private routes included, until the future is dropped.
///
/// For development and tests: nothing is isolated.
///
/// # Errors
/// The listener cannot be served.
pub async fn serve_alone(listener: TcpListener, settings: Settings) -> io::Result<()> {
    let state = Arc::new(State::new(settings));
    let _reaper = reaper::spawn(Arc::clone(&state), Scope::of_this_process())?;
    let listener = server::Listener::tcp(listener)?;
    listener.serve(server::Routers::alone(state)).await;
    Ok(())
}
