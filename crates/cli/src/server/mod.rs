//! `soulbox serve`: opens the parts in the order in which they need each other, and closes them in
//! the reverse one.
//!
//! [`Stack::open`] is the whole server; the command around it deals with signals and words.

mod address;
mod notify;
mod templates;
mod tls;

use std::{future::Future, io, path::PathBuf, sync::Arc};

use soulbox_control::{Control, Limits, derive::Workbench};
use soulbox_engine::Engine as _;
use soulbox_engine_native::{Native, Options};
use soulbox_gateway::Gateway;
use soulbox_image::{Templates, derived::Derived};
use soulbox_model::Resources;
use soulbox_store::Store;
use tokio::{net::TcpListener, task::spawn_blocking};

pub use notify::notify;

use crate::{
    args::serve::{EngineKind, Serve},
    data_dir::{Announcement, Lock},
    failure::{Failure, Result},
    settings::Settings,
};
use address::{bind, reached_at};
use templates::Preparation;
use tls::Tls;

/// The agent's static binary, which runs as PID 1 of every sandbox.
pub const AGENT: &[u8] = include_bytes!(env!("SOULBOX_AGENT"));

/// A server that is ready to serve.
#[derive(Debug)]
pub struct Stack {
    listener: TcpListener,
    tls: Option<Tls>,
    gateway: Gateway,
    api: axum::Router,
    control: Control,
    engine: Arc<Native>,
    store: Store,
    preparation: Preparation,
    announcement: Announcement,
    settings: Settings,
    /// Whether this start made the first API key.
    pub made_key: bool,
    _lock: Lock,
}

impl Stack {
    /// Opens everything; sandboxes of an earlier server are taken over.
    ///
    /// # Errors
    /// What is missing, in one sentence that says what to do.
    pub async fn open(settings: &Settings, args: &Serve) -> Result<Self> {
        let EngineKind::Native = args.engine;
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::Environment {
                message: "the native engine needs root".into(),
                hint: "start the server with sudo or as a system service".into(),
            });
        }
        let data_dir = &settings.data_dir;
        data_dir.create()?;
        data_dir.check_space()?;
        let lock = data_dir.lock()?;
        let domain = args.domain.as_deref().map(address::domain).transpose()?;
        let listener = bind(settings.listen).await?;
        let bound = listener.local_addr().map_err(Failure::io("listener"))?;
        let tls = Tls::open(args, data_dir, domain.as_ref())?;

        let store = Store::open(data_dir.database()).await.map_err(soulbox_model::Error::from)?;
        let made_key = store
            .ensure_first_key(&data_dir.api_key(), "first")
            .await
            .map_err(soulbox_model::Error::from)?;

        let options = Options {
            data_dir: data_dir.path().to_owned(),
            agent: AGENT,
            max_sandboxes: args.max_sandboxes,
            pool: args.pool as usize,
            resources: Resources::default(),
            disk_rate: args.disk_rate(),
        };
        let engine = blocking(move || Native::open(options)).await?.map_err(unopened)?;
        let dir = engine.store_dir().join("templates");
        let templates = blocking(move || Templates::open(dir)).await?;
        let templates = Arc::new(templates.map_err(soulbox_model::Error::from)?);
        runtimes(&templates, &engine).await?;
        let preparation = Preparation::start(&templates, !args.no_base).await?;

        let control = Control::open(soulbox_control::Config {
            engine: engine.clone(),
            store: store.clone(),
            templates,
            resources: Resources::default(),
            limits: Limits { max_sandboxes: args.max_sandboxes, ..Limits::default() },
            egress: soulbox_egress::Service::new(args.egress()),
            trusted: trusted(&args.sandbox_ca)?,
            domain: domain.as_ref().map(|domain| domain.told(tls.is_some(), bound.port())),
            custom_domains: args.custom_domain.clone(),
        })
        .await?;
        let info = soulbox_api::ServerInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            engine: engine.name().into(),
            started_at: chrono::Utc::now(),
            resources: Resources::default(),
        };
        let api = soulbox_api::router(control.clone(), info);
        let config = soulbox_gateway::Config {
            domain: domain.as_ref().map(|domain| domain.name.clone()),
            ..soulbox_gateway::Config::default()
        };
        let gateway = Gateway::new(control.clone(), config).map_err(soulbox_model::Error::from)?;
        let reached = reached_at(bound, tls.as_ref(), domain.as_ref());
        let announcement = Announcement {
            pid: std::process::id(),
            url: reached.url,
            domain: reached.domain,
            ca: tls.as_ref().and_then(|tls| tls.trust.clone()),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        data_dir.announce(&announcement)?;
        Ok(Self {
            listener,
            tls,
            gateway,
            api,
            control,
            engine,
            store,
            preparation,
            announcement,
            settings: settings.clone(),
            made_key,
            _lock: lock,
        })
    }

    pub fn announcement(&self) -> &Announcement {
        &self.announcement
    }

    /// The authority that this start made, which nobody trusts yet.
    pub fn new_authority(&self) -> Option<&PathBuf> {
        self.tls.as_ref().and_then(|tls| tls.new_authority.as_ref())
    }

    /// Serves until `shutdown`, then closes; `reload` resolves each time that certificates changed.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(
        self,
        kill_sandboxes: bool,
        shutdown: impl Future<Output = ()>,
        reload: impl AsyncFnMut() -> Option<()>,
    ) -> Result<()> {
        let Self { listener, tls, gateway, api, control, engine, store, settings, .. } = self;
        let config = tls.as_ref().map(|tls| Arc::clone(&tls.config));
        let serving = soulbox_gateway::serve(listener, gateway, api, config, shutdown);
        let served = tokio::select! {
            served = serving => served,
            never = tls::keep_fresh(tls.as_ref(), reload) => match never {},
        };
        settings.data_dir.withdraw();
        drop(self.preparation);
        control.close(kill_sandboxes).await;
        drop(control);
        engine.close().await;
        store.close().await;
        served.map_err(Failure::io("listener"))
    }
}

/// Makes the templates of runtimes known; each is built when somebody asks for it.
async fn runtimes(templates: &Arc<Templates>, engine: &Arc<Native>) -> Result<()> {
    let workbench = Workbench::new(engine.clone());
    let templates = Arc::clone(templates);
    let added = blocking(move || {
        soulbox_runtime::adapters::plans().into_iter().try_for_each(|plan| {
            templates.add(Arc::new(Derived::new(plan, Arc::clone(&workbench) as _)))
        })
    });
    Ok(added.await?.map_err(soulbox_model::Error::from)?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| Failure::io("starting")(io::Error::other(error)))
}

/// An engine that does not open is a matter of the machine, not of a sandbox.
/// The certificates in `files`, one after the other.
fn trusted(files: &[PathBuf]) -> Result<Option<String>> {
    let mut all = String::new();
    for file in files {
        let bad = |why: String| Failure::Environment {
            message: format!("{} holds no certificate: {why}", file.display()),
            hint: "--sandbox-ca takes a file of certificates in PEM".into(),
        };
        let text = std::fs::read_to_string(file).map_err(|error| bad(error.to_string()))?;
        if !text.contains("-----BEGIN CERTIFICATE-----") || text.contains("PRIVATE KEY") {
            return Err(bad("it is something else".into()));
        }
        all.push_str(text.trim_end());
        all.push('\n');
    }
    Ok((!all.is_empty()).then_some(all))
}

fn unopened(error: soulbox_engine::Error) -> Failure {
    match error {
        soulbox_engine::Error::Stage { stage, source } => {
            Failure::Io { context: stage.into(), source }
        }
        other => Failure::Environment {
            message: other.to_string(),
            hint: "`soulbox doctor` says what this machine can do".into(),
        },
    }
}
