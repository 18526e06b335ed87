//! One request on its way into a sandbox, and the answer on its way out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{self, HeaderName},
    uri::PathAndQuery,
};
use hyper::{
    body::{Body as _, Incoming},
    ext::Protocol,
    upgrade::OnUpgrade,
};
use rand::RngExt;
use soulbox_engine::{Conduit, ConnectError, Target};
use soulbox_linger::discard;
use soulbox_model::{Port, RetryPolicy};
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;

use crate::{
    Inner,
    answer::{Fault, Problem, wants_page},
    body::{Download, Held, Upload, UploadHandle, lingering},
    grpc, headers,
    ingress::{self, Entry},
    listener::Peer,
    pool::{Connection, Full, Lease, Permit},
    route::Destination,
    tunnel,
};

/// Nothing was asked before there is a connection. A program that was just started may not listen yet, so
/// the waits are whole: jitter would only give it up sooner. No circuit breaker: the kernel says at once
/// whether somebody listens, and what one program does must not shut out another.
const DIAL: RetryPolicy = RetryPolicy {
    attempts: 5,
    first_delay: Duration::from_millis(100),
    factor: 1.6,
    max_delay: Duration::from_millis(400),
    total: DIAL_TIMEOUT,
};
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Routes of the agent that belong to the server; the agent's own path matching cannot be fooled into
/// one of these by a path that [`reserved`] lets through.
const RESERVED: [&str; 7] =
    ["/init", "/freeze", "/unfreeze", "/fsfreeze", "/fsthaw", "/collapse", "/upgrade"];

/// A client's wish to leave HTTP.
struct Upgrade {
    client: OnUpgrade,
    /// Asked for by HTTP/2's extended CONNECT (RFC 8441) rather than by `Upgrade`.
    extended: bool,
}

/// Who asks, and over what.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub peer: &'a Arc<Peer>,
    pub tls: bool,
}

enum Admitted {
    Enters(Entrance),
    Answered(Box<Response<Body>>),
}

struct Entrance {
    permit: Permit,
    /// The host that it is to carry, where that is not the one it came with.
    mask: Option<String>,
    tls: bool,
}

/// What the way of a request needs to know.
struct Passage<'a> {
    peer: &'a Arc<Peer>,
    to: Destination,
    target: Target,
    /// Whether the program there speaks TLS.
    tls: bool,
    permit: Permit,
    upload: UploadHandle,
    upgrade: Option<Upgrade>,
    /// Connections that were tried in vain before the one of now.
    again: AtomicU32,
}

impl Inner {
    /// Relays a request; a problem becomes an answer.
    pub async fn relay(
        &self,
        to: Destination,
        request: Request<Incoming>,
        client: Client<'_>,
    ) -> Response<Body> {
        let page = wants_page(request.headers());
        match self.deliver(to, request, client).await {
            Ok(response) => response,
            Err(problem) => {
                tracing::debug!(code = problem.code(), ?problem, "not delivered");
                problem.into_response(page)
            }
        }
    }

    async fn deliver(
        &self,
        to: Destination,
        mut request: Request<Incoming>,
        client: Client<'_>,
    ) -> Result<Response<Body>, Problem> {
        let peer = client.peer;
        let Entrance { permit, mask, tls } = match self.admit(&to, &mut request, client.tls) {
            Ok(Admitted::Enters(entrance)) => entrance,
            Ok(Admitted::Answered(response)) => return Ok(*response),
            Err(problem) => {
                refuse_body(request, peer);
                return Err(problem);
            }
        };
        let target = if to.port == Port::AGENT { Target::Agent } else { Target::Port(to.port) };
        let grpc = grpc::is_call(request.version(), request.headers());
        let (request, upload, upgrade) = outgoing(request, mask);
        let again = AtomicU32::new(0);
        let passage = Passage { peer, to, target, tls, permit, upload, upgrade, again };
        if grpc {
            let (response, call) = self.call(&passage, request).await?;
            let held = (call, passage.permit);
            return Ok(response.map(|incoming| Body::new(Held::new(Body::new(incoming), held))));
        }
        match self.send(&passage, request).await {
            Ok((response, connection)) => answer(passage, response, connection),
            Err(problem) => {
                if let Some(rest) = passage.upload.take_rest() {
                    peer.run.spawn(discard(rest));
                }
                Err(problem)
            }
        }
    }

    fn admit(
        &self,
        to: &Destination,
        request: &mut Request<Incoming>,
        tls: bool,
    ) -> Result<Admitted, Problem> {
        let Some(id) = &to.id else { return Err(Problem::not_found(to.clone())) };
        let (mut mask, mut inside) = (None, false);
        if to.port == Port::AGENT {
            let path = request.uri().path();
            if reserved(path) {
                return Err(Problem::Reserved(path.to_owned()));
            }
        } else {
            let access = self.sandboxes.port_access(id);
            let access = access.ok_or_else(|| Problem::not_found(to.clone()))?;
            let entry = ingress::enter(&access, to.port, tls, request)
                .map_err(|refusal| Problem::Private(to.clone(), refusal))?;
            // After the token: to nobody else it is told what a private sandbox exposes.
            access
                .check_exposed(to.port)
                .map_err(|unexposed| Problem::Unexposed(to.clone(), unexposed))?;
            if let Entry::Answered(response) = entry {
                return Ok(Admitted::Answered(response));
            }
            mask = access.mask().map(|mask| mask.for_port(to.port));
            inside = access.speaks_tls(to.port);
        }
        match self.pool.enter(id) {
            Ok(permit) => Ok(Admitted::Enters(Entrance { permit, mask, tls: inside })),
            Err(Full::AtOnce) => Err(Problem::TooMany(to.clone(), self.pool.max_requests())),
            Err(Full::PerSecond) => Err(Problem::TooFast(Some(to.clone()))),
        }
    }

    /// Sends over an idle connection, else over a new one. A request goes out a second time only if
    /// not one byte of it was sent; or if it may be repeated (RFC 9110 §9.2.2) and went out over a
    /// connection that its server may have been closing, where nothing came back.
    async fn send(
        &self,
        passage: &Passage<'_>,
        mut request: Request<Upload>,
    ) -> Result<(Response<Incoming>, Connection), Problem> {
        while let Some(mut connection) = passage.permit.take_idle(passage.target).await {
            let copy = passage.is_repeatable(&request).then(|| again(&request));
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut failed) => match (failed.take_message(), copy) {
                    (Some(unsent), _) => {
                        request = unsent;
                        passage.try_again();
                    }
                    (None, Some(copy)) if is_unanswered(failed.error()) => {
                        request = copy;
                        passage.try_again();
                        break;
                    }
                    (None, _) => return Err(self.explain(passage, &failed.into_error()).await),
                },
            }
        }
        let conduit = self.dial(passage).await?;
        let opened = if passage.tls {
            Connection::open(self.greet(passage, conduit, false).await?).await
        } else {
            Connection::open(conduit).await
        };
        let mut connection = opened.map_err(|_| passage.unreachable(Fault::Dial))?;
        match connection.sender.try_send_request(request).await {
            Ok(response) => Ok((response, connection)),
            Err(failed) => Err(self.explain(passage, &failed.into_error()).await),
        }
    }

    async fn call(
        &self,
        passage: &Passage<'_>,
        request: Request<Upload>,
    ) -> Result<(Response<Incoming>, grpc::Call), Problem> {
        let conduit = self.dial(passage).await?;
        let called = if passage.tls {
            grpc::call(self.greet(passage, conduit, true).await?, request).await
        } else {
            grpc::call(conduit, request).await
        };
        match called {
            Ok(answered) => Ok(answered),
            Err(error) => Err(self.explain(passage, &error).await),
        }
    }

    async fn greet(
        &self,
        passage: &Passage<'_>,
        conduit: Conduit,
        http2: bool,
    ) -> Result<TlsStream<Conduit>, Problem> {
        match timeout(DIAL_TIMEOUT, self.inside.greet(conduit, http2)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, sandbox = %passage.permit.id, "TLS into a sandbox");
                Err(passage.unreachable(Fault::NotTls))
            }
            Err(_) => Err(passage.unreachable(Fault::NotTls)),
        }
    }

    /// A stream to a port, as soon as somebody listens there.
    async fn dial(&self, passage: &Passage<'_>) -> Result<Conduit, Problem> {
        let (to, id) = (&passage.to, &passage.permit.id);
        let mut waits = DIAL.delays();
        loop {
            let dialled = self.sandboxes.dial(id, passage.target);
            let problem = match timeout(DIAL_TIMEOUT, dialled).await {
                Ok(Ok(conduit)) => {
                    hurry(&conduit);
                    return Ok(conduit);
                }
                Ok(Err(ConnectError::NotRunning(_))) => return Err(Problem::not_found(to.clone())),
                Ok(Err(ConnectError::PortClosed(_))) => Problem::PortClosed(to.clone()),
                Ok(Err(ConnectError::Io(error))) => {
                    tracing::debug!(%error, sandbox = %id, "dial");
                    passage.unreachable(Fault::Dial)
                }
                Err(_) => return Err(passage.unreachable(Fault::Dial)),
            };
            match waits.next() {
                Some(wait) => sleep(wait).await,
                None => return Err(problem),
            }
            // Where nobody listened yet, no connection was lost.
            if matches!(problem, Problem::Unreachable(..)) {
                passage.try_again();
            }
        }
    }

    /// Tells the end of the sandbox from the failure of one program in it: the agent lives as long as
    /// the sandbox does.
    async fn explain(&self, passage: &Passage<'_>, error: &hyper::Error) -> Problem {
        if passage.upload.is_broken() {
            return Problem::BrokenBody;
        }
        tracing::debug!(%error, sandbox = %passage.permit.id, "no answer");
        let probe = self.sandboxes.dial(&passage.permit.id, Target::Agent);
        match timeout(DIAL_TIMEOUT, probe).await {
            Ok(Ok(_)) => {
                let fault = if error.is_parse() { Fault::NotHttp } else { Fault::Closed };
                passage.unreachable(fault)
            }
            _ => Problem::not_found(passage.to.clone()),
        }
    }
}

impl Passage<'_> {
    fn try_again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    fn unreachable(&self, fault: Fault) -> Problem {
        Problem::Unreachable(self.to.clone(), fault, self.again.load(Ordering::Relaxed))
    }

    /// Whether it may go out twice: it is idempotent and has no body. Agents do not close idle connections.
    fn is_repeatable(&self, request: &Request<Upload>) -> bool {
        matches!(self.target, Target::Port(_))
            && self.upgrade.is_none()
            && request.method().is_idempotent()
            && request.body().is_end_stream()
    }
}

/// The same request, which has no body.
fn again(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Small writes go out at once.
fn hurry(conduit: &Conduit) {
    if let Conduit::Tcp(stream) = conduit
        && let Err(error) = stream.set_nodelay(true)
    {
        tracing::debug!(%error, "TCP_NODELAY into a sandbox");
    }
}

/// Whether the connection ended before a byte of an answer.
fn is_unanswered(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed()
}

/// Lets a client that is answered before its body was read finish sending.
pub(crate) fn refuse_body(request: Request<Incoming>, peer: &Arc<Peer>) {
    drop(lingering(request, Arc::clone(&peer.run)));
}

/// The request as the sandbox gets it.
fn outgoing(
    mut request: Request<Incoming>,
    mask: Option<String>,
) -> (Request<Upload>, UploadHandle, Option<Upgrade>) {
    let extended = request.extensions().get::<Protocol>().cloned();
    let wanted = headers::wanted_upgrade(request.headers());
    let upgrade = (extended.is_some() || wanted.is_some()).then(|| Upgrade {
        client: hyper::upgrade::on(&mut request),
        extended: extended.is_some(),
    });
    let (mut parts, incoming) = request.into_parts();
    let expect = parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        && !incoming.is_end_stream();
    let settings = headers::http2_settings(&parts.headers);
    headers::prepare_request(&mut parts.headers, parts.version);

    let host = parts.uri.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    if let Some(host) = host {
        parts.headers.insert(header::HOST, host);
    }
    if let Some(mask) = mask.and_then(|mask| HeaderValue::try_from(mask).ok())
        && let Some(original) = parts.headers.insert(header::HOST, mask)
    {
        parts.headers.insert(headers::FORWARDED_HOST, original);
    }
    // Not left to hyper, which drops the body of a GET whose length it does not know.
    if !incoming.is_end_stream() && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(protocol) = extended {
        let protocol = HeaderValue::from_str(protocol.as_str())
            .unwrap_or(HeaderValue::from_static("websocket"));
        let key = BASE64_STANDARD.encode(rand::rng().random::<[u8; 16]>());
        headers::ask_upgrade(&mut parts.headers, protocol, None);
        if let Ok(key) = HeaderValue::from_str(&key) {
            parts.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
        parts.method = Method::GET;
    } else if let Some(protocol) = wanted {
        headers::ask_upgrade(&mut parts.headers, protocol, settings);
    }

    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let (upload, handle) = Upload::new(incoming, expect);
    let mut out = Request::new(upload);
    *out.method_mut() = parts.method;
    *out.uri_mut() = Uri::from(path);
    *out.version_mut() = Version::HTTP_11;
    *out.headers_mut() = parts.headers;
    if expect {
        let open = handle.opener();
        hyper::ext::on_informational(&mut out, move |informational| {
            if informational.status() == StatusCode::CONTINUE {
                open();
            }
        });
    }
    (out, handle, upgrade)
}

/// The answer as the client gets it.
fn answer(
    passage: Passage<'_>,
    mut response: Response<Incoming>,
    connection: Connection,
) -> Result<Response<Body>, Problem> {
    let not_http = passage.unreachable(Fault::NotHttp);
    let Passage { peer, target, permit, upload, upgrade, .. } = passage;
    *response.version_mut() = Version::HTTP_11;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(upgrade) = upgrade else {
            return Err(not_http);
        };
        return Ok(switch(peer, upgrade, response, permit, connection));
    }
    // To a client of extended CONNECT, a success would mean that the tunnel is there.
    if upgrade.is_some_and(|upgrade| upgrade.extended) && response.status().is_success() {
        return Err(not_http);
    }
    headers::prepare_response(response.headers_mut());
    let lease = Lease { connection, permit, target, upload, run: Arc::clone(&peer.run) };
    Ok(response.map(|incoming| Body::new(Download::new(incoming, lease))))
}

/// Answers that the protocol changes and joins the two ends once both have.
fn switch(
    peer: &Arc<Peer>,
    upgrade: Upgrade,
    mut response: Response<Incoming>,
    permit: Permit,
    connection: Connection,
) -> Response<Body> {
    let sandbox = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(header::UPGRADE).cloned();
    headers::prepare_response(response.headers_mut());
    response.headers_mut().remove(header::CONTENT_LENGTH);
    if upgrade.extended {
        *response.status_mut() = StatusCode::OK;
        const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;
        response.headers_mut().remove(ACCEPT);
    } else if let Some(protocol) = protocol {
        headers::ask_upgrade(response.headers_mut(), protocol, None);
    }
    let held = (Arc::clone(peer), permit, connection);
    peer.run.spawn(async move {
        let _held = held;
        match tokio::try_join!(upgrade.client, sandbox) {
            Ok((client, sandbox)) => {
                if let Err(error) = tunnel::join(client, sandbox).await {
                    tracing::debug!(%error, "tunnel");
                }
            }
            Err(error) => tracing::debug!(%error, "upgrade"),
        }
    });
    response.map(|_| Body::empty())
}

/// Whether a path means one of [`RESERVED`] to anyone who decodes and cleans it.
fn reserved(path: &str) -> bool {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let mut clean: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                clean.pop();
            }
            segment => clean.push(segment),
        }
    }
    match clean[..] {
        [only] => RESERVED.iter().any(|route| route[1..].eq_ignore_ascii_case(only)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_routes_are_seen_through_every_spelling() {
        for path in ["/init", "/init/", "//init", "/%69nit", "/x/../init", "/./INIT", "/freeze"] {
            assert!(reserved(path), "{path}");
        }
        for path in ["/", "/initial", "/init/x", "/files", "/process.Process/Start"] {
            assert!(!reserved(path), "{path}");
        }
    }
}
