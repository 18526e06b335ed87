//! Answers of the plain HTTP endpoints.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use serde::Serialize;

#[derive(Serialize)]
struct Failure<'a> {
    code: u16,
    message: &'a str,
    soulbox: Detail,
}

/// Ours, beside what clients of envd read.
#[derive(Serialize)]
struct Detail {
    code: &'static str,
    retryable: bool,
}

/// The error body of every plain endpoint: `{"code":<status>,"message":"…"}`, with the platform's code
/// behind it, and a newline.
pub fn error(status: StatusCode, message: &str) -> Response<Body> {
    let code = soulbox_model::Error::code_of_status(status.as_u16());
    let soulbox = Detail { code, retryable: false };
    json(status, &Failure { code: status.as_u16(), message, soulbox })
}

/// A JSON answer with a newline at its end.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Response<Body> {
    let (status, mut bytes) = match serde_json::to_vec(body) {
        Ok(bytes) => (status, bytes),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{\"code\":500,\"message\":\"\"}".to_vec()),
    };
    bytes.push(b'\n');
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A text answer with a newline at its end, as Go's `http.Error` writes it.
pub fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{message}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// No body, never to be cached.
pub fn no_content() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
