//! Sandboxes that are servers of this process, a gateway in front of them, and clients.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_gateway::{Config, Gateway, PortAccess, Sandboxes};
use soulbox_model::{Port, SandboxId};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::rustls::ServerConfig;

pub const SOON: Duration = Duration::from_secs(10);

/// Sandboxes whose ports are servers on this machine.
#[derive(Default)]
pub struct World {
    ports: Mutex<HashMap<(SandboxId, u16), SocketAddr>>,
    agents: Mutex<HashMap<SandboxId, PathBuf>>,
    tokens: Mutex<HashMap<String, SandboxId>>,
    names: Mutex<HashMap<String, (SandboxId, Port)>>,
    pub dials: AtomicUsize,
    pub access: Mutex<Option<PortAccess>>,
    /// Ports to which no connection can be made.
    pub broken: Mutex<Vec<u16>>,
}

#[async_trait]
impl Sandboxes for World {
    async fn dial(&self, id: &SandboxId, target: Target) -> Result<Conduit, ConnectError> {
        let agent = self.agents.lock().unwrap().get(id).cloned();
        let agent = agent.ok_or_else(|| ConnectError::NotRunning(id.clone()))?;
        match target {
            Target::Agent | Target::Control => Ok(Conduit::Unix(UnixStream::connect(agent).await?)),
            Target::Port(port) => {
                self.dials.fetch_add(1, Ordering::SeqCst);
                if self.broken.lock().unwrap().contains(&port.get()) {
                    return Err(io::Error::from(io::ErrorKind::HostUnreachable).into());
                }
                let address = self.ports.lock().unwrap().get(&(id.clone(), port.get())).copied();
                let address = address.ok_or(ConnectError::PortClosed(port))?;
                match TcpStream::connect(address).await {
                    Ok(stream) => Ok(Conduit::Tcp(stream)),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        Err(ConnectError::PortClosed(port))
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    fn port_access(&self, id: &SandboxId) -> Option<Arc<PortAccess>> {
        let known = self.agents.lock().unwrap().contains_key(id);
        known.then(|| Arc::new(self.access.lock().unwrap().clone().unwrap_or_default()))
    }

    fn by_access_token(&self, token: &str) -> Option<SandboxId> {
        self.tokens.lock().unwrap().get(token).cloned()
    }

    fn by_fitting_token(&self, fits: &dyn Fn(&str) -> bool) -> Option<SandboxId> {
        let tokens = self.tokens.lock().unwrap();
        tokens.iter().find(|(token, _)| fits(token)).map(|(_, id)| id.clone())
    }

    fn by_domain(&self, name: &str) -> Option<(SandboxId, Port)> {
        self.names.lock().unwrap().get(name).cloned()
    }
}

/// A gateway that serves one sandbox (and knows of no other), and what is around it.
pub struct Stage {
    pub id: SandboxId,
    pub address: SocketAddr,
    pub world: Arc<World>,
    pub server: JoinHandle<io::Result<()>>,
    pub stop: Option<oneshot::Sender<()>>,
    dir: tempfile::TempDir,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(Config::default(), None).await
    }

    pub async fn with(config: Config, tls: Option<Arc<ServerConfig>>) -> Self {
        let world = Arc::new(World::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let gateway = Gateway::new(Arc::clone(&world), config).unwrap();
        let server = tokio::spawn(soulbox_gateway::serve(listener, gateway, api(), tls, async {
            let _ = stopped.await;
        }));
        let dir = tempfile::tempdir().unwrap();
        let stage = Self { id: SandboxId::random(), address, world, server, stop: Some(stop), dir };
        stage.agent(Router::new().fallback(|| async { "agent" })).await;
        stage
    }

    /// Replaces the sandbox's agent.
    pub async fn agent(&self, router: Router) {
        let listener = self.agent_listener();
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    pub fn agent_listener(&self) -> UnixListener {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.path().join(format!("agent{n}"));
        let listener = UnixListener::bind(&path).unwrap();
        self.world.agents.lock().unwrap().insert(self.id.clone(), path);
        listener
    }

    pub fn token(&self, token: &str) {
        self.world.tokens.lock().unwrap().insert(token.to_owned(), self.id.clone());
    }

    /// A name of the sandbox's own.
    pub fn name(&self, name: &str, port: u16) {
        let place = (self.id.clone(), Port::new(port).unwrap());
        self.world.names.lock().unwrap().insert(name.to_owned(), place);
    }

    /// The sandbox is gone: nothing of it answers.
    pub fn kill(&self) {
        self.world.agents.lock().unwrap().clear();
        self.world.ports.lock().unwrap().clear();
    }

    pub async fn http(&self, port: u16, router: Router) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.listen(port, listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    /// A server that does `serve` with each connection; the counter counts connections.
    pub async fn raw<F, Fut>(&self, port: u16, serve: F) -> Arc<AtomicUsize>
    where
        F: Fn(TcpStream, usize) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.listen(port, listener.local_addr().unwrap());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let n = counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, n));
            }
        });
        count
    }

    pub fn listen(&self, port: u16, address: SocketAddr) {
        self.world.ports.lock().unwrap().insert((self.id.clone(), port), address);
    }

    pub fn host(&self, port: u16) -> String {
        format!("{port}-{}.localhost:{}", self.id, self.address.port())
    }

    pub async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.address).await.unwrap())
    }

    /// Opens a connection, sends these bytes, reads to the end of it.
    pub async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut raw = self.connect().await;
        raw.send(bytes).await;
        raw.rest().await
    }

    /// One request over HTTP/1.1 on a connection of its own.
    pub async fn request(&self, request: Request<Body>) -> Response<Incoming> {
        timeout(SOON, self.request_patiently(request)).await.unwrap()
    }

    pub async fn request_patiently(&self, request: Request<Body>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    pub fn get(&self, port: u16, path: &str) -> http::request::Builder {
        Request::builder().uri(path).header("host", self.host(port))
    }

    pub async fn text(&self, port: u16, path: &str) -> (u16, String) {
        let request = self.get(port, path).body(Body::empty()).unwrap();
        read(self.request(request).await).await
    }

    pub async fn h2(&self) -> hyper::client::conn::http2::SendRequest<Body> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            TokioIo::new(stream),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn api() -> Router {
    Router::new()
        .route("/health", axum::routing::get(|| async { "api" }))
        .fallback(|| async { (http::StatusCode::NOT_FOUND, "api has no such route") })
}

pub async fn read(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = timeout(SOON, response.into_body().collect()).await.unwrap().unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

pub async fn json(response: Response<Incoming>) -> (u16, serde_json::Value) {
    let (status, body) = read(response).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

/// A client that writes and reads bytes.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the bytes so far end with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        let all = async {
            while !got.ends_with(end.as_bytes()) {
                match self.0.read_u8().await {
                    Ok(byte) => got.push(byte),
                    Err(_) => break,
                }
            }
        };
        let ended = timeout(SOON, all).await.is_ok();
        let text = String::from_utf8_lossy(&got).into_owned();
        assert!(ended && text.ends_with(end), "waiting for {end:?}, got {text:?}");
        text
    }

    /// Reads until the other side closes, in whichever way.
    pub async fn rest(&mut self) -> String {
        let mut got = Vec::new();
        let _ = timeout(SOON, self.0.read_to_end(&mut got)).await.expect("still open");
        String::from_utf8_lossy(&got).into_owned()
    }
}

/// Reads a request's head (and nothing after it).
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(got).ok()
}

/// Resolves when the other side of a connection is gone.
pub async fn gone(stream: &mut TcpStream) {
    let mut sink = [0; 65536];
    while !matches!(stream.read(&mut sink).await, Ok(0) | Err(_)) {}
}
