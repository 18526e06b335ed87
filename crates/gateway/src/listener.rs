//! The server's one port: accepts connections, finds out what they speak, hands each request to a sandbox
//! or to the API, and ends them all in order.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::{Request, Response, Version};
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use soulbox_linger::Socket;
use soulbox_model::Port;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{
    Config, Gateway, Inner,
    answer::Problem,
    body::{Held, lingering},
    limits::{Clients, Seat},
    proxy::{Client, refuse_body},
    route::{Destination, Route, route},
    socket::{InFlight, Pulse, Pulsed, first_byte, long_lived},
};

/// All headers of one request, in bytes.
const MAX_HEADERS: usize = 64 * 1024;
const H2_STREAMS: u32 = 1024;
/// What one HTTP/2 stream, and all of a connection together, may have sent that its sandbox has not read.
const H2_STREAM_WINDOW: u32 = 512 * 1024;
const H2_CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
const H2_SEND_BUFFER: usize = 128 * 1024;
const H2_PING: Duration = Duration::from_secs(30);
/// How often a connection is looked at for idleness and for a client that left.
const LOOK: Duration = Duration::from_millis(750);
/// How long an ending connection without requests may take to deliver what is still in its buffers.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// With more than three quarters of the connections in use, idle ones go after this long.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_millis(500);
/// How many requests a link that fits no sandbox counts as: each sandbox was asked.
const MISSED_LINK: u32 = 50;
/// The first byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// Descriptors that a request may need: the client's and the sandbox's.
const FILES_PER_CONNECTION: u64 = 2;

/// One run of [`serve`]: owns every task that it started.
pub(crate) struct Run {
    tasks: TaskTracker,
    /// Finish what is in flight.
    closing: CancellationToken,
    /// Stop at once.
    cut: CancellationToken,
    connections: Arc<Semaphore>,
    max_connections: usize,
}

/// Who is at the other end of a connection.
pub(crate) struct Peer {
    pub address: SocketAddr,
    pub run: Arc<Run>,
    seat: Seat,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    fn new(config: &Config) -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let affordable = files.map_or(usize::MAX, |files| {
            usize::try_from(files.saturating_sub(256) / FILES_PER_CONNECTION).unwrap_or(usize::MAX)
        });
        let max_connections =
            config.max_connections.min(affordable).clamp(16, Semaphore::MAX_PERMITS);
        Self {
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            connections: Arc::new(Semaphore::new(max_connections)),
            max_connections,
        }
    }

    /// Runs a task until it is done or this run is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = cut.cancelled() => {}
            }
        });
    }

    fn is_under_pressure(&self) -> bool {
        self.connections.available_permits() < self.max_connections / 4
    }
}

/// Runs hyper's HTTP/2 streams as tasks of a run.
#[derive(Clone)]
struct Streams(Arc<Run>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.0.spawn(stream);
    }
}

/// Serves sandboxes and `api` on `listener` until `shutdown` resolves; then finishes what is in flight, for at
/// most [`Config::drain`].
///
/// With `tls`, both TLS and plain HTTP are understood; plain HTTP only from this machine unless
/// [`Config::remote_cleartext`]. `api` finds the client's address in
/// [`axum::extract::ConnectInfo<SocketAddr>`].
///
/// # Errors
/// None at present: a failed accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    gateway: Gateway,
    api: Router,
    tls: Option<Arc<ServerConfig>>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let inner = gateway.inner;
    let run = Arc::new(Run::new(&inner.config));
    let server = Arc::new(Server {
        http: http_server(&run, &inner.config),
        tls: tls.map(TlsAcceptor::from),
        api,
        inner: Arc::clone(&inner),
    });
    let clients = Arc::new(Clients::new(
        inner.config.max_connections_per_client,
        inner.config.max_request_rate_per_client,
        !inner.config.limit_loopback,
    ));
    run.spawn({
        let inner = Arc::clone(&inner);
        let clients = Arc::clone(&clients);
        async move {
            let mut tick = interval(SWEEP);
            loop {
                tick.tick().await;
                inner.pool.sweep();
                clients.sweep();
            }
        }
    });

    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &run) => accepted,
        };
        match accepted {
            Ok((stream, address, permit)) => {
                let Some(seat) = clients.enter(address.ip()) else {
                    tracing::debug!(peer = %address, "more connections than one client may have");
                    continue;
                };
                let peer = Arc::new(Peer { address, run: Arc::clone(&run), seat, _permit: permit });
                let server = Arc::clone(&server);
                run.spawn(async move { server.connection(stream, peer).await });
            }
            Err(error) => {
                // Out of descriptors or a client that left in the backlog: neither is for ever.
                tracing::warn!(%error, "accept");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    drop(listener);
    run.closing.cancel();
    run.tasks.close();
    inner.pool.clear();
    if timeout(inner.config.drain, run.drained()).await.is_err() {
        tracing::info!(tasks = run.tasks.len(), "cutting connections that did not end in time");
    }
    run.cut.cancel();
    run.tasks.wait().await;
    Ok(())
}

impl Run {
    /// Resolves when no client connection and no tunnel is left.
    async fn drained(&self) {
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        let _ = self.connections.acquire_many(all).await;
    }
}

async fn accept(
    listener: &TcpListener,
    run: &Run,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&run.connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, address, permit))
}

fn http_server(run: &Arc<Run>, config: &Config) -> auto::Builder<Streams> {
    let mut server = auto::Builder::new(Streams(Arc::clone(run)));
    server
        .http1()
        .timer(TokioTimer::new())
        // Who closes its side behind a request may wait for the answer; `Pulse` sees who left.
        .half_close(true)
        // Runs between requests too, so it must not be shorter; `Pulse` sees to slow headers.
        .header_read_timeout(config.idle_timeout.max(config.header_timeout))
        .max_buf_size(MAX_HEADERS);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADERS).unwrap_or(u32::MAX))
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING)
        .enable_connect_protocol();
    server
}

struct Server {
    http: auto::Builder<Streams>,
    tls: Option<TlsAcceptor>,
    api: Router,
    inner: Arc<Inner>,
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: Arc<Peer>) {
        let socket = long_lived(stream);
        let Some(tls) = &self.tls else {
            return self.http(socket.clone(), socket, peer, false).await;
        };
        let limit = self.inner.config.header_timeout;
        let first = tokio::select! {
            first = timeout(limit, first_byte(&socket)) => first,
            () = peer.run.closing.cancelled() => return,
        };
        let Ok(Ok(first)) = first else { return };
        if first == TLS_HANDSHAKE {
            match timeout(limit, tls.accept(socket.clone())).await {
                Ok(Ok(stream)) => self.http(stream, socket, peer, true).await,
                Ok(Err(error)) => tracing::debug!(%error, peer = %peer.address, "TLS handshake"),
                Err(_) => tracing::debug!(peer = %peer.address, "TLS handshake took too long"),
            }
        } else if self.inner.config.remote_cleartext
            || peer.address.ip().to_canonical().is_loopback()
        {
            self.http(socket.clone(), socket, peer, false).await;
        } else {
            refuse_cleartext(socket).await;
        }
    }

    /// Serves HTTP on a connection until it ends, idles too long, or the run closes.
    async fn http(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        socket: Socket,
        peer: Arc<Peer>,
        tls: bool,
    ) {
        let config = &self.inner.config;
        let pulse = Arc::new(Pulse::new());
        let service = service_fn({
            let (server, pulse, peer) = (Arc::clone(self), Arc::clone(&pulse), Arc::clone(&peer));
            let socket = socket.clone();
            move |request: Request<Incoming>| {
                let multiplexed = request.version() == Version::HTTP_2;
                let in_flight = pulse.request(multiplexed);
                let (server, pulse, peer) =
                    (Arc::clone(&server), Arc::clone(&pulse), Arc::clone(&peer));
                let socket = socket.clone();
                async move {
                    let answer = server.request(request, Client { peer: &peer, tls });
                    let response = if multiplexed {
                        answer.await
                    } else {
                        pulse.until_answered(&socket, answer).await
                    };
                    Ok::<_, Infallible>(hold(response, in_flight))
                }
            }
        });
        let io = TokioIo::new(Pulsed::new(stream, Arc::clone(&pulse)));
        let connection = self.http.serve_connection_with_upgrades(io, service);
        let closing = peer.run.closing.cancelled();
        tokio::pin!(connection, closing);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ending = None;
        loop {
            tokio::select! {
                biased;
                result = &mut connection => {
                    if let Err(error) = result {
                        tracing::debug!(error, peer = %peer.address, "connection");
                    }
                    return;
                }
                () = &mut closing, if ending.is_none() => {
                    ending = Some(Instant::now());
                    connection.as_mut().graceful_shutdown();
                }
                () = pulse.left.notified() => return,
                _ = look.tick() => {
                    let idle = if peer.run.is_under_pressure() {
                        config.idle_timeout.min(IDLE_UNDER_PRESSURE)
                    } else {
                        config.idle_timeout
                    };
                    let left = pulse.is_left(&socket);
                    let stuck = ending.is_some_and(|since| since.elapsed() > LAST_WORDS);
                    if left || (stuck && !pulse.is_busy()) {
                        return;
                    }
                    if ending.is_none() && pulse.is_overdue(config.header_timeout, idle) {
                        if !pulse.is_multiplexed() {
                            return;
                        }
                        ending = Some(Instant::now());
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }

    async fn request(&self, request: Request<Incoming>, client: Client<'_>) -> Response<Body> {
        if !client.peer.seat.may_ask() {
            return turn_away(Problem::TooFast(None), request, client);
        }
        let (mut parts, incoming) = request.into_parts();
        let sandboxes = &self.inner.sandboxes;
        let named = |name: &str| sandboxes.by_domain(name);
        let routed = route(&parts, self.inner.config.domain.as_deref(), named);
        let found = match routed {
            Ok(Route::Api) => {
                parts.extensions.insert(ConnectInfo(client.peer.address));
                let run = Arc::clone(&client.peer.run);
                let request = lingering(Request::from_parts(parts, incoming), run);
                return match self.api.clone().oneshot(request.map(Body::new)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
            }
            Ok(Route::Sandbox(to)) => Ok(to),
            Ok(Route::AccessToken(token)) => sandboxes
                .by_access_token(&token)
                .map(|id| Destination::from((id, Port::AGENT)))
                .ok_or(Problem::NotFound { name: String::new(), port: None }),
            Ok(Route::Link(link)) => {
                let id = sandboxes.by_fitting_token(&link.test());
                id.map(|id| Destination::from((id, Port::AGENT))).ok_or_else(|| {
                    client.peer.seat.pay(MISSED_LINK);
                    Problem::Link { signed: link.is_signed() }
                })
            }
            Err(why) => Err(Problem::Misrouted(why)),
        };
        let request = Request::from_parts(parts, incoming);
        match found {
            Ok(to) => self.inner.relay(to, request, client).await,
            Err(problem) => turn_away(problem, request, client),
        }
    }
}

/// Answers a request that goes nowhere.
fn turn_away(problem: Problem, request: Request<Incoming>, client: Client<'_>) -> Response<Body> {
    refuse_body(request, client.peer);
    problem.into_response(false)
}

fn hold(response: Response<Body>, in_flight: InFlight) -> Response<Held<InFlight>> {
    response.map(|body| Held::new(body, in_flight))
}

/// A client that speaks plain HTTP where only TLS is served learns so instead of a reset.
async fn refuse_cleartext(mut socket: Socket) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n\
        content-length: 65\r\nconnection: close\r\n\r\n\
        {\"code\":400,\"message\":\"This port speaks HTTPS to other machines\"}\n";
    let _ = timeout(Duration::from_secs(5), async {
        socket.write_all(ANSWER).await?;
        socket.shutdown().await
    })
    .await;
}
