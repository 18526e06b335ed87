//! Connections into sandboxes: kept open between requests, counted, and closed with what they served.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use soulbox_engine::Target;
use soulbox_linger::discard;
use soulbox_model::SandboxId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    body::{Upload, UploadHandle},
    limits::Bucket,
    listener::Run,
};

/// Head of an answer that a sandbox may send, and the size of one read, in bytes.
const READ_BUFFER: usize = 64 * 1024;
/// Idle connections kept for one port of one sandbox.
const IDLE_PER_TARGET: usize = 64;
/// User servers close idle connections after 2 s (gunicorn), 5 s (Node, uvicorn) or more: stay well
/// below, so that a request seldom meets a closing one.
const IDLE_PORT: Duration = Duration::from_secs(1);
/// The agent never closes an idle connection.
const IDLE_AGENT: Duration = Duration::from_secs(90);
/// How long a connection that just served may take to be ready for the next request.
const SETTLE: Duration = Duration::from_millis(5);

pub(crate) struct Pool {
    lanes: Mutex<HashMap<SandboxId, Lane>>,
    max_requests: usize,
    per_second: u32,
}

/// Why a sandbox takes no request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    AtOnce,
    PerSecond,
}

/// What the gateway has going on with one sandbox.
struct Lane {
    requests: usize,
    rate: Bucket,
    /// Most recently used last.
    idle: Vec<Idle>,
}

struct Idle {
    target: Target,
    connection: Connection,
    since: Instant,
}

/// One HTTP/1.1 connection into a sandbox; closed at once when dropped.
pub(crate) struct Connection {
    pub sender: http1::SendRequest<Upload>,
    _driver: AbortOnDropHandle<()>,
}

/// The right to one request into a sandbox.
pub(crate) struct Permit {
    pool: Arc<Pool>,
    pub id: SandboxId,
}

/// A connection in use by one request.
pub(crate) struct Lease {
    pub connection: Connection,
    pub permit: Permit,
    pub target: Target,
    pub upload: UploadHandle,
    pub run: Arc<Run>,
}

impl Pool {
    pub fn new(max_requests: usize, per_second: u32) -> Self {
        Self { lanes: Mutex::default(), max_requests, per_second }
    }

    /// # Errors
    /// When the sandbox has as many requests as it may have.
    pub fn enter(self: &Arc<Self>, id: &SandboxId) -> Result<Permit, Full> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(id.clone()).or_insert_with(|| Lane {
            requests: 0,
            rate: Bucket::new(self.per_second),
            idle: Vec::new(),
        });
        if lane.requests >= self.max_requests {
            return Err(Full::AtOnce);
        }
        if !lane.rate.take() {
            return Err(Full::PerSecond);
        }
        lane.requests += 1;
        Ok(Permit { pool: Arc::clone(self), id: id.clone() })
    }

    pub fn max_requests(&self) -> usize {
        self.max_requests
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lanes.lock().retain(|_, lane| {
            lane.idle.retain(|idle| !idle.is_stale(now) && !idle.connection.sender.is_closed());
            !lane.is_unused()
        });
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        self.lanes.lock().retain(|_, lane| {
            lane.idle.clear();
            !lane.is_unused()
        });
    }

    fn put(&self, id: &SandboxId, target: Target, connection: Connection) {
        let mut lanes = self.lanes.lock();
        // The caller's permit keeps the lane.
        if let Some(lane) = lanes.get_mut(id) {
            let same = lane.idle.iter().filter(|idle| idle.target == target).count();
            if same < IDLE_PER_TARGET {
                lane.idle.push(Idle { target, connection, since: Instant::now() });
            }
        }
    }

    fn take(&self, id: &SandboxId, target: Target) -> Option<Idle> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.get_mut(id)?;
        let at = lane.idle.iter().rposition(|idle| idle.target == target)?;
        Some(lane.idle.remove(at))
    }
}

impl Lane {
    /// Nothing goes on, and nothing is owed.
    fn is_unused(&mut self) -> bool {
        self.requests == 0 && self.idle.is_empty() && self.rate.is_full()
    }
}

impl Idle {
    fn is_stale(&self, now: Instant) -> bool {
        let limit = match self.target {
            Target::Agent | Target::Control => IDLE_AGENT,
            Target::Port(_) => IDLE_PORT,
        };
        now.duration_since(self.since) > limit
    }
}

impl Permit {
    /// A connection that served before and can serve again.
    pub async fn take_idle(&self, target: Target) -> Option<Connection> {
        while let Some(mut idle) = self.pool.take(&self.id, target) {
            if idle.is_stale(Instant::now()) {
                continue;
            }
            let sender = &mut idle.connection.sender;
            let sender_ready = sender.is_ready()
                || (!sender.is_closed()
                    && timeout(SETTLE, sender.ready()).await.is_ok_and(|ready| ready.is_ok()));
            if sender_ready {
                return Some(idle.connection);
            }
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut lane) = self.pool.lanes.lock().entry(self.id.clone()) {
            lane.get_mut().requests -= 1;
            if lane.get_mut().is_unused() {
                lane.remove();
            }
        }
    }
}

impl Connection {
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> hyper::Result<Self> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection into a sandbox");
            }
        });
        Ok(Self { sender, _driver: AbortOnDropHandle::new(driver) })
    }
}

impl Lease {
    /// The answer is complete: keeps the connection if the request is complete too, else closes it
    /// and lets the client finish sending.
    pub fn finish(self) {
        if self.upload.is_finished() {
            if !self.connection.sender.is_closed() {
                self.permit.pool.put(&self.permit.id, self.target, self.connection);
            }
        } else if let Some(rest) = self.upload.take_rest() {
            self.run.spawn(discard(rest));
        }
    }
}
