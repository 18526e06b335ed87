//! Requests to a host that a rule is for: opened, judged, given their headers, sent on to the host
//! itself.
//!
//! The client's TLS ends here, in the name of the sandbox's own authority; ours to the host is
//! verified like anybody's. A message is read whole and written anew, so both sides understand the
//! same request; a request for another host than the connection is for is refused, so that what a
//! rule sets goes nowhere else.

mod body;
mod client;
mod headers;
mod placeholders;
mod refusal;
mod scrub;
mod upstream;

use std::{convert::Infallible, error::Error, io, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use soulbox_model::network::{Domain, Egress};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use self::{
    body::Body,
    client::Client,
    placeholders::To,
    refusal::{Failure, Refusal},
    scrub::Scrub,
    upstream::Upstream,
};
pub(crate) use self::{placeholders::put_in, upstream::Roots};
use crate::{Decision, Event, Policy, Target, answer, gate::Shared};

/// How long a client may take to finish its TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to send the headers of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// Of the headers of one message, in bytes.
const HEADERS: usize = 64 * 1024;
/// So many are read over HTTP/2, which refuses by itself what is longer.
const HEADERS_READ: u32 = 256 * 1024;
/// Of a refused request's body that is read before the answer, in bytes, and for how long.
const UNREAD: usize = 256 * 1024;
const UNREAD_WITHIN: Duration = Duration::from_secs(2);
/// Requests of one connection at a time.
const STREAMS: u32 = 32;

/// Belong to one connection, and are made anew on the next.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A connection that is opened here.
pub(crate) struct Opening {
    pub(crate) stream: TcpStream,
    /// What was read of it already.
    pub(crate) head: Vec<u8>,
    /// Whether that is TLS.
    pub(crate) sealed: bool,
    pub(crate) host: Domain,
    pub(crate) port: u16,
}

/// Serves the requests of a connection until either side is done.
///
/// # Errors
/// If the client does not trust the authority, or speaks something else.
pub(crate) async fn serve(shared: Arc<Shared>, opening: Opening) -> io::Result<()> {
    let Opening { stream, head, sealed, host, port } = opening;
    stream.set_nodelay(true)?;
    let authority = shared.authority();
    let client = Client::new(stream);
    let stream = tokio::io::join(io::Cursor::new(head).chain(client.clone()), client.clone());
    if !sealed {
        let upstream = Upstream::new(Arc::clone(&shared), host, port, None);
        return answer_all(shared, upstream, stream, &client).await;
    }
    let authority = authority.ok_or_else(|| io::Error::other("the sandbox has no authority"))?;
    let acceptor = TlsAcceptor::from(authority.server(&host)?);
    let stream = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await??;
    client.acknowledge()?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let roots = shared.service.roots()?.client(h2);
    let upstream = Upstream::new(Arc::clone(&shared), host, port, Some(roots));
    answer_all(shared, upstream, stream, &client).await
}

async fn answer_all<S>(
    shared: Arc<Shared>,
    upstream: Upstream,
    stream: S,
    client: &Client,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = Arc::new(Exchange { shared, upstream, upgraded: Mutex::default() });
    let served = Arc::clone(&exchange);
    let service = service_fn(move |request| {
        let exchange = Arc::clone(&served);
        async move { Ok::<_, Infallible>(exchange.answer(request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        // A client that has asked all it wants may say so before it hears the answer; `Client` sees who
        // left.
        .half_close(true)
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(upstream::STREAM_WINDOW)
        .initial_connection_window_size(upstream::CONNECTION_WINDOW)
        .max_send_buf_size(upstream::SEND_BUFFER)
        .max_header_list_size(HEADERS_READ);
    let mut policy = exchange.shared.policy.clone();
    let cut = policy.wait_for(|policy| exchange.upstream.cut_by(policy));
    let work = async {
        let served = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::select! {
            biased;
            served = served => served.map_err(|error| exchange.broken(error))?,
            () = client.left() => return Err(io::ErrorKind::ConnectionAborted.into()),
        }
        // Here, so that it ends with the flow.
        let upgraded = exchange.upgraded.lock().take();
        if let Some((inside, outside)) = upgraded {
            tokio::select! {
                () = join(inside, outside) => {}
                () = client.hung() => {}
            }
        }
        Ok(())
    };
    tokio::select! {
        biased;
        _ = cut => Err(io::ErrorKind::PermissionDenied.into()),
        done = work => done,
    }
}

struct Exchange {
    shared: Arc<Shared>,
    upstream: Upstream,
    /// Both sides of a connection that leaves HTTP; nothing else follows on it.
    upgraded: Mutex<Option<(OnUpgrade, OnUpgrade)>>,
}

impl Exchange {
    /// Has the owner hear of it.
    fn tell(&self, refusal: &Refusal) {
        let (target, rule) = (Target::name(self.upstream.host()), refusal.rule.clone());
        self.shared.refused("http", target, rule, refusal.why.clone());
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let failure = match self.pass_on(request).await {
            Ok(response) => return response,
            Err(failure) => failure,
        };
        let host = self.upstream.host();
        let text = match &failure {
            Failure::Unreachable(why) => format!("{host} cannot be reached: {why}"),
            Failure::Refused(refusal) => {
                self.tell(refusal);
                format!("SoulBox refused a request of this sandbox to {host}: {}.", refusal.why)
            }
        };
        let mut response = Response::new(Body::whole(format!("{text}\n").into()));
        *response.status_mut() = match &failure {
            Failure::Unreachable(_) => StatusCode::BAD_GATEWAY,
            Failure::Refused(refusal) => refusal.status,
        };
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response.headers_mut().insert(answer::MARK.0, answer::MARK.1);
        if let Failure::Refused(Refusal { again: Some(seconds), .. }) = failure {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Tells of the request that hyper refuses by itself.
    fn broken(&self, error: Box<dyn Error + Send + Sync>) -> io::Error {
        if error.downcast_ref().is_some_and(hyper::Error::is_parse_too_large) {
            self.tell(&Refusal::too_long());
        }
        io::Error::other(error)
    }

    async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        // As the policy is now, not as it was when the connection began.
        let policy = Arc::clone(&self.shared.policy.borrow());
        let (scrub, inside) = match self.prepare(&policy, &mut request).await {
            Ok(prepared) => prepared,
            Err(failure) => {
                // An answer amid a request is lost on many clients.
                let mut rest = Limited::new(request.into_body(), UNREAD);
                let drained = async { while let Some(Ok(_)) = rest.frame().await {} };
                let _ = timeout(UNREAD_WITHIN, drained).await;
                return Err(failure);
            }
        };
        let mut response = self.upstream.send(&policy, request).await?;
        if let Some(inside) = inside
            && response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            let outside = hyper::upgrade::on(&mut response);
            *self.upgraded.lock() = Some((inside, outside));
        }
        Ok(returned(response, scrub))
    }

    /// Judges a request and gives it its headers.
    async fn prepare(
        &self,
        policy: &Policy,
        request: &mut Request<Incoming>,
    ) -> Result<(Scrub, Option<OnUpgrade>), Failure> {
        let egress = policy.egress();
        if length(request.headers()) > HEADERS {
            return Err(Failure::Refused(Refusal::too_long()));
        }
        if request.method() == Method::CONNECT {
            let why = "CONNECT has no place here";
            return Err(Failure::refused(StatusCode::METHOD_NOT_ALLOWED, "method", why));
        }
        let host = self.upstream.host();
        if named(request).as_ref() != Some(host) {
            let why = format!("this connection is for {host}; open another one for other hosts");
            return Err(Failure::refused(StatusCode::MISDIRECTED_REQUEST, "host", why));
        }
        self.judge(egress, request)?;
        let wanted = upgrade(request.headers());
        let trailers = request.headers().get(header::TE).is_some_and(|te| te == "trailers");
        for name in HOP_BY_HOP {
            request.headers_mut().remove(name);
        }
        if let Some(protocol) = &wanted {
            let keep = HeaderValue::from_static("upgrade");
            request.headers_mut().insert(header::CONNECTION, keep);
            request.headers_mut().insert(header::UPGRADE, protocol.clone());
        }
        if trailers {
            request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let scrub = self.fill_in(egress, request).await.map_err(Failure::not_allowed)?;
        self.note_allowed(policy, request);
        Ok((scrub, wanted.is_some().then(|| hyper::upgrade::on(request))))
    }

    /// Puts in what the sandbox does not hold; returns what must not come back.
    async fn fill_in(
        &self,
        egress: &Egress,
        request: &mut Request<Incoming>,
    ) -> Result<Scrub, String> {
        let (secrets, host) = (&self.shared.secrets, self.upstream.host());
        let sealed = self.upstream.is_sealed();
        let to = To { host, port: self.upstream.port(), sealed };
        let mut scrub = Scrub::default();
        placeholders::fill(secrets, egress, &to, request, &mut scrub).await?;
        if let Some(transform) = egress.transform(host) {
            let headers = request.headers_mut();
            headers::set(secrets, transform, &to, headers, &mut scrub).await?;
        }
        if !scrub.is_empty() {
            headers::ask_plain(request.headers_mut());
        }
        Ok(scrub)
    }

    fn judge(&self, egress: &Egress, request: &Request<Incoming>) -> Result<(), Failure> {
        let (host, method, path) = (self.upstream.host(), request.method(), request.uri().path());
        if !egress.permits(method.as_str(), host, path) {
            let shown: String = path.chars().take(128).collect();
            return Err(Failure::not_allowed(format!("no request rule allows {method} {shown}")));
        }
        if let Some(rate) = egress.rate(host) {
            self.shared.rates.take(rate).map_err(|seconds| {
                Failure::Refused(Refusal {
                    status: StatusCode::TOO_MANY_REQUESTS,
                    rule: format!("perMinute {}", rate.host),
                    why: format!(
                        "its rules let it ask {} times a minute; wait {seconds} seconds",
                        rate.per_minute
                    ),
                    again: Some(seconds),
                })
            })?;
        }
        Ok(())
    }

    fn note_allowed(&self, policy: &Policy, request: &Request<Incoming>) {
        let (host, egress) = (self.upstream.host(), policy.egress());
        let rule = match egress.permitting(request.method().as_str(), host, request.uri().path()) {
            Some(rule) => format!("requests {rule}"),
            None if egress.opens(host) => "rules".to_owned(),
            None => policy.allowing(None, Some(host)),
        };
        let allowed = Event::new(Decision::Allowed, "http", Target::name(host), rule);
        self.shared.traffic.note(allowed);
    }
}

/// As HTTP/2 counts it.
fn length(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

/// What the sandbox gets to see of an answer.
fn returned(response: Response<Incoming>, scrub: Scrub) -> Response<Body> {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (mut parts, body) = response.into_parts();
    parts.version = Version::default();
    // The reason of HTTP/1 is in there, in words of the host.
    parts.extensions.clear();
    if !switching {
        for name in HOP_BY_HOP {
            parts.headers.remove(name);
        }
    }
    scrub.headers(&mut parts.headers);
    Response::from_parts(parts, Body::scrubbed(body, scrub))
}

/// The host that a request is for, if it says so in one voice.
fn named(request: &Request<Incoming>) -> Option<Domain> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(domain(host.to_str().ok()?)?),
        (Some(_), Some(_)) => return None,
    };
    let target = match request.uri().authority() {
        None => None,
        Some(authority) => Some(domain(authority.as_str())?),
    };
    match (target, header) {
        (Some(target), Some(header)) if target != header => None,
        (target, header) => target.or(header),
    }
}

fn domain(text: &str) -> Option<Domain> {
    let authority: http::uri::Authority = text.parse().ok().filter(|_| !text.contains('@'))?;
    authority.host().parse().ok()
}

/// Other protocols would lead around what is looked into here.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get(header::CONNECTION)?
        .to_str()
        .ok()?
        .split(',')
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    let known = |protocol: &&HeaderValue| protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    headers.get(header::UPGRADE).filter(|_| asks).filter(known).cloned()
}

async fn join(inside: OnUpgrade, outside: OnUpgrade) {
    if let (Ok(inside), Ok(outside)) = tokio::join!(inside, outside) {
        let (mut inside, mut outside) = (TokioIo::new(inside), TokioIo::new(outside));
        let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
    }
}
