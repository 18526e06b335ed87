//! Listeners, routes and the order in which a request is checked.
//!
//! A request passes, outermost first: CORS, the access token ([`crate::auth::check_token`], not
//! on the control listener), the acting user ([`crate::auth::note_acting_user`]), its route.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::State as Shared,
    http::{HeaderName, Method, Request, Response, StatusCode},
    middleware,
    routing::{get, post, post_service},
};
use connectrpc::{CompressionPolicy, ConnectRpcService, DeadlinePolicy, Limits};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use soulbox_linger::{Lingering, discard};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::mpsc,
    task::JoinSet,
};
use tower::ServiceExt;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::{State, auth, files, fs::FilesystemService, init, log, metrics, process, reply};

/// The largest request message: files travel elsewhere, but input to a process may be long.
const MAX_MESSAGE: usize = 64 << 20;
/// How long a connection may be idle; longer than any proxy in front keeps one.
const IDLE: Duration = Duration::from_secs(640);
/// How many connections one listener serves at a time; more wait in its backlog, so that nobody
/// inside can take all descriptors of the agent.
const MAX_CONNECTIONS: usize = 4096;
/// How long to wait after `accept` failed for lack of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What each kind of listener answers.
#[derive(Debug, Clone)]
pub struct Routers {
    /// For everybody who can reach the sandbox.
    pub clients: Router,
    /// For the server alone.
    pub control: Router,
}

impl Routers {
    pub fn new(state: Arc<State>) -> Self {
        let public = public_routes(&state);
        let private = private_routes(&state);
        Self {
            control: public.clone().merge(private).layer(Extension(auth::Trusted)).layer(cors()),
            clients: with_token(public, state),
        }
    }

    /// Everything on one listener, behind the access token.
    pub fn alone(state: Arc<State>) -> Router {
        with_token(public_routes(&state).merge(private_routes(&state)), state)
    }
}

fn with_token(router: Router, state: Arc<State>) -> Router {
    router.layer(middleware::from_fn_with_state(state, auth::check_token)).layer(cors())
}

fn private_routes(state: &Arc<State>) -> Router {
    Router::new()
        .route("/init", post(init::init))
        .route("/soulbox/logs", get(log::page))
        .with_state(Arc::clone(state))
}

fn public_routes(state: &Arc<State>) -> Router {
    let services = connectrpc::Router::new()
        .add_service(Arc::new(process::Service::new(Arc::clone(state))))
        .add_service(Arc::new(FilesystemService::new(Arc::clone(state))));
    let limits = Limits::default()
        .with_max_message_size(MAX_MESSAGE)
        .with_max_request_body_size(MAX_MESSAGE);
    let paths: Vec<String> = services.methods().map(|path| format!("/{path}")).collect();
    let rpc = ConnectRpcService::new(services)
        .with_limits(limits)
        .with_compression_policy(CompressionPolicy::disabled())
        .with_deadline_policy(DeadlinePolicy::new().with_enforce_on_streams(true));
    let mut router = Router::new()
        .route("/health", get(async || reply::no_content()))
        .route("/metrics", get(metrics::metrics))
        .route("/envs", get(envs))
        .with_state(Arc::clone(state))
        .merge(files::router(Arc::clone(state)));
    for path in paths {
        router = router.route(&path, post_service(rpc.clone()));
    }
    router
        .fallback(async || reply::text(StatusCode::NOT_FOUND, "404 page not found"))
        .layer(middleware::from_fn(auth::note_acting_user))
}

/// The environment that every command gets, without that of its user.
async fn envs(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    reply::json(StatusCode::OK, &state.global_env())
}

fn cors() -> CorsLayer {
    let exposed = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "location",
        "cache-control",
        "x-content-type-options",
    ];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([
            Method::HEAD,
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        // Named one by one: `*` would leave out `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_secs(7200))
}

/// A socket that accepts HTTP/1.1 connections.
#[derive(Debug)]
pub enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// # Errors
    /// The socket cannot be made non-blocking or registered with the runtime.
    pub fn unix(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Self::Unix)
    }

    /// # Errors
    /// See [`Listener::unix`].
    pub fn tcp(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }

    /// Answers connections until the future is dropped, which ends them all.
    pub async fn serve(self, router: Router) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = match &self {
                Self::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                    connections.spawn(connection(stream, router.clone()));
                }),
                Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Only delays small answers otherwise.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, router.clone()));
                }),
            };
            if accepted.is_err() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            while connections.try_join_next().is_some() {}
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
        }
    }
}

/// Serves one connection; what goes wrong on it is its client's business alone.
async fn connection<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (rest, mut rests) = mpsc::channel(1);
    let router = router.map_request(move |request: Request<Incoming>| {
        let rest = rest.clone();
        // Without a taker the connection is over anyway.
        let hand_over = move |incoming| drop(rest.try_send(incoming));
        Lingering::of(request, hand_over).map(Body::new)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let lingering = async {
        while let Some(incoming) = rests.recv().await {
            discard(incoming).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        _ = serving => {}
        () = lingering => {}
    }
}
