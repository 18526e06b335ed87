//! The agent's Connect services, over the same router that serves sandboxes.
//!
//! Only what neither starts a process nor changes a file: the targets run on the developer's machine.

use std::{future::Future, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use soulbox_agent::{Settings, State, server::Routers};
use tower::ServiceExt as _;

use crate::input::{self, Input};

const METHODS: &[&str] = &[
    "/process.Process/List",
    "/process.Process/Connect",
    "/process.Process/StreamInput",
    "/process.Process/SendInput",
    "/process.Process/SendSignal",
    "/process.Process/CloseStdin",
    "/process.Process/Update",
    "/filesystem.Filesystem/Stat",
    "/filesystem.Filesystem/GetWatcherEvents",
    "/filesystem.Filesystem/RemoveWatcher",
];

const STREAMS: &[&str] = &["/process.Process/Connect", "/process.Process/StreamInput"];

const TYPES: &[&str] = &[
    "application/json",
    "application/proto",
    "application/connect+json",
    "application/connect+proto",
    "application/grpc-web+proto",
    "text/plain",
];

/// Longest answer to a request that does nothing, in bytes.
const MAX_ANSWER: usize = 1 << 20;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn state() -> Arc<State> {
    Arc::new(State::new(Settings { default_user: "root".into(), ..Settings::default() }))
}

/// Any message to a method is answered, in the form that the protocol has for it.
pub fn connect(data: &[u8]) {
    let mut input = Input::new(data);
    let method = METHODS[usize::from(input.byte()) % METHODS.len()];
    let kind = TYPES[usize::from(input.byte()) % TYPES.len()];
    let framing = input.byte();
    let mut headers = input::headers(&mut input);
    // A deadline of the client's would be waited for.
    headers.remove("connect-timeout-ms");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let body = if framing & 1 == 0 { input.rest().to_vec().into() } else { framed(input) };
    let (status, headers, body) = answer(method, headers, body);
    assert_ne!(status, 500, "{method}: {}", String::from_utf8_lossy(&body));
    let answered = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if STREAMS.contains(&method) && status == 200 {
        assert!(answered.is_some_and(|kind| kind.starts_with("application/")), "{answered:?}");
        if kind.starts_with("application/connect+") {
            ends_once(&body);
        }
    } else if status >= 400 && answered.is_some_and(|kind| kind.starts_with("application/json")) {
        let said: serde_json::Value = serde_json::from_slice(&body).expect("an error is JSON");
        assert!(said["code"].is_string(), "{said}");
    }
}

/// Lines as enveloped messages; the flags are the first byte of each.
fn framed(mut input: Input<'_>) -> Bytes {
    let mut body = BytesMut::new();
    while !input.is_empty() {
        let mut line = Input::new(input.line());
        let flags = line.byte();
        let message = line.rest();
        body.put_u8(flags & 3);
        body.put_u32(message.len() as u32);
        body.put_slice(message);
    }
    body.freeze()
}

/// A stream is envelopes, and the last of them alone says that it is.
fn ends_once(mut body: &[u8]) {
    loop {
        assert!(body.len() >= 5, "the stream ends without saying so");
        let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
        let (flags, rest) = (body[0], &body[5..]);
        assert!(rest.len() >= length, "half an envelope");
        body = &rest[length..];
        if flags & 2 != 0 {
            assert!(body.is_empty(), "something follows the end");
            serde_json::from_slice::<serde_json::Value>(&rest[..length]).expect("the end is JSON");
            return;
        }
    }
}

/// `POST /init` with any body: settings change only for who knows the token.
pub fn init(data: &[u8]) {
    let mut input = Input::new(data);
    let secret = input.byte() & 1 == 1;
    let state = state();
    if secret {
        state.with_settings(|settings| settings.access_token = Some("secret".into()));
    }
    let before = state.global_env();
    let headers = input::headers(&mut input);
    let knows = data.windows(6).any(|window| window == b"secret") || data.contains(&b'\\');
    let router = Routers::new(Arc::clone(&state)).control;
    let (status, _, _) = call(router, "/init", headers, Bytes::copy_from_slice(input.rest()));
    assert!(matches!(status, 204 | 400 | 401 | 413 | 415), "{status}");
    if status != 204 {
        assert_eq!(state.global_env(), before, "refused, and yet applied");
    }
    if secret && !knows {
        assert_ne!(status, 204, "without the token");
        assert_eq!(state.access_token().as_deref(), Some("secret"));
    }
}

fn answer(path: &str, headers: HeaderMap, body: Bytes) -> (u16, HeaderMap, Bytes) {
    call(Routers::new(state()).clients, path, headers, body)
}

fn call(
    router: axum::Router,
    path: &str,
    headers: HeaderMap,
    body: Bytes,
) -> (u16, HeaderMap, Bytes) {
    let mut request = Request::post(path).body(Body::from(body)).expect("a request");
    *request.headers_mut() = headers;
    block_on(async {
        let exchange = async {
            let response = router.oneshot(request).await.expect("an infallible service");
            let (parts, body) = response.into_parts();
            let body = http_body_util::Limited::new(body, MAX_ANSWER);
            let body = body.collect().await.expect("a bounded answer").to_bytes();
            (parts.status.as_u16(), parts.headers, body)
        };
        tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("an answer in time")
    })
}
