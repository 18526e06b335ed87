//! gRPC calls, which need HTTP/2 all the way: one HTTP/2 connection into the sandbox for each
//! call, ended with it.

use http::{HeaderMap, Request, Response, Uri, Version, header, uri};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

use crate::body::Upload;

const STREAM_WINDOW: u32 = 512 * 1024;
const MAX_HEADERS: u32 = 64 * 1024;

/// What keeps a call going; dropped, it closes the connection.
pub(crate) struct Call {
    _sender: http2::SendRequest<Upload>,
    _driver: AbortOnDropHandle<()>,
}

/// Clients of gRPC speak HTTP/2 and say so by the type of what they send; gRPC-Web needs nothing of it.
pub(crate) fn is_call(version: Version, headers: &HeaderMap) -> bool {
    let plain = |kind: &[u8]| {
        kind.strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    version == Version::HTTP_2
        && headers.get(header::CONTENT_TYPE).is_some_and(|kind| plain(kind.as_bytes()))
}

/// Sends a request that is prepared for HTTP/1.1.
pub(crate) async fn call(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Upload>,
) -> hyper::Result<(Response<Incoming>, Call)> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "gRPC connection into a sandbox");
        }
    }));
    let response = sender.send_request(absolute(request)).await?;
    Ok((response, Call { _sender: sender, _driver: driver }))
}

/// HTTP/2 has the host in the request line and frames bodies itself.
fn absolute(mut request: Request<Upload>) -> Request<Upload> {
    let host = request.headers_mut().remove(header::HOST);
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    parts.authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    request
}
