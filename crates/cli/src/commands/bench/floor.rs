//! The floor of `bench create`: the kernel's share, measured beside the server.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use soulbox_engine::{Bind, Engine as _, Rootfs, Without};
use soulbox_engine_native::{Native, Options, floor};
use soulbox_image::{HOST, Template, Templates};
use soulbox_model::{DiskRate, Resources};
use tokio::task::spawn_blocking;

use crate::{
    commands::subject::{Subject, fresh_dir, remove},
    failure::{Failure, Result},
    server::AGENT,
};

/// What both sides run.
pub(super) const COMMAND: &str = "/bin/true";

/// An engine of its own, on a directory of its own, that makes what [`floor::Floor`] measures.
#[derive(Debug)]
pub(super) struct Floor {
    engine: Arc<Native>,
    floor: Arc<floor::Floor>,
    dir: std::path::PathBuf,
}

impl Floor {
    /// Opens a floor beside `subject` for as long as `work` takes.
    pub(super) async fn beside<T>(
        subject: &Subject,
        work: impl AsyncFnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let floor = Self::open(subject).await?;
        let done = work(&floor).await;
        floor.end().await;
        done
    }

    async fn open(subject: &Subject) -> Result<Self> {
        let dir = fresh_dir("floor")?;
        match Self::on(subject, &dir).await {
            Ok((engine, floor)) => Ok(Self { engine, floor: Arc::new(floor), dir }),
            Err(failure) => {
                remove(&dir);
                Err(failure)
            }
        }
    }

    async fn on(subject: &Subject, dir: &Path) -> Result<(Arc<Native>, floor::Floor)> {
        let options = Options {
            data_dir: dir.to_owned(),
            agent: AGENT,
            max_sandboxes: 4096,
            pool: 0,
            resources: Resources::default(),
            disk_rate: DiskRate::default(),
        };
        let engine = Native::open(options).map_err(soulbox_model::Error::from)?;
        let made = async {
            // The same root as the measured sandboxes have, where it is on this machine.
            let template = match &subject.data_dir {
                Some(dir) => find(&dir.join("store/templates"), &subject.template).await?,
                None => own(&engine).await?,
            };
            floor::Floor::new(&engine, rootfs(&template), Resources::default())
                .map_err(Failure::io("the floor's program"))
        };
        match made.await {
            Ok(floor) => Ok((engine, floor)),
            Err(failure) => {
                engine.close().await;
                Err(failure)
            }
        }
    }

    pub(super) async fn measure(&self) -> Result<Duration> {
        let floor = Arc::clone(&self.floor);
        let measured = spawn_blocking(move || floor.measure()).await;
        let measured =
            measured.map_err(|error| Failure::io("floor")(std::io::Error::other(error)))?;
        Ok(measured.map_err(soulbox_model::Error::from)?)
    }

    /// As many at once as there are processors, until all `number` are made. Returns how long all took.
    pub(super) async fn burst(&self, number: u32) -> Result<Duration> {
        let left = Arc::new(AtomicU32::new(number));
        let began = Instant::now();
        self.threads(move || {
            left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
        })
        .await?;
        Ok(began.elapsed())
    }

    /// As many at once as there are processors, for `span`.
    pub(super) async fn sustained(&self, span: Duration) -> Result<Vec<Duration>> {
        let began = Instant::now();
        self.threads(move || began.elapsed() < span).await
    }

    async fn threads(
        &self,
        more: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Vec<Duration>> {
        let floor = Arc::clone(&self.floor);
        let measured = spawn_blocking(move || {
            let work = || {
                let mut samples = Vec::new();
                while more() {
                    samples.push(floor.measure()?);
                }
                Ok(samples)
            };
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
                let joined = threads.into_iter().map(|thread| {
                    thread.join().unwrap_or_else(|_| {
                        Err(soulbox_engine::Error::Unsupported("a thread of the floor died".into()))
                    })
                });
                joined.collect::<soulbox_engine::Result<Vec<_>>>()
            })
        })
        .await
        .map_err(|error| Failure::io("floor")(std::io::Error::other(error)))?;
        Ok(measured.map_err(soulbox_model::Error::from)?.concat())
    }

    async fn end(self) {
        let Self { engine, floor, dir } = self;
        drop(floor);
        engine.close().await;
        drop(engine);
        remove(&dir);
    }
}

/// Fork, exec and wait of the command on this machine.
pub(super) async fn bare() -> Result<Duration> {
    let measured = spawn_blocking(|| floor::bare(COMMAND)).await;
    measured
        .map_err(std::io::Error::other)
        .and_then(|measured| measured)
        .map_err(Failure::io(COMMAND))
}

async fn find(templates: &Path, name: &str) -> Result<Arc<Template>> {
    let (templates, name) = (templates.to_owned(), name.to_owned());
    let found = spawn_blocking(move || {
        let templates = Templates::open(templates).map_err(soulbox_model::Error::from)?;
        templates.resolve(&name)
    });
    let found =
        found.await.map_err(|error| Failure::io("templates")(std::io::Error::other(error)))?;
    Ok(found?)
}

async fn own(engine: &Native) -> Result<Arc<Template>> {
    let dir = engine.store_dir().join("templates");
    let templates = Templates::open(dir).map_err(soulbox_model::Error::from)?;
    Ok(templates.build(HOST, |_| {}).await.map_err(soulbox_model::Error::from)?)
}

fn rootfs(template: &Template) -> Rootfs {
    let binds = template.binds.iter();
    Rootfs {
        layers: template.layers.clone(),
        binds: binds
            .map(|(source, target)| Bind { source: source.clone(), target: target.clone() })
            .collect(),
        without: Without::default(),
    }
}
