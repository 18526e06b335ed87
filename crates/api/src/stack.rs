//! What surrounds every route: request ids and spans, CORS, panics, the time limit.

use std::{any::Any, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use soulbox_model::Error;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, Any as AnyOrigin, CorsLayer},
};
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::{AnsweredCode, Problem};

/// How long a request may take, in full. Clients give up after 60 s.
const TIME_LIMIT: Duration = Duration::from_secs(70);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The page token of lists.
pub const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");

/// How many running sandboxes match a list request.
pub const TOTAL_RUNNING: HeaderName = HeaderName::from_static("x-total-running");

/// Adds everything that no handler should have to think of.
pub fn surround(router: Router) -> Router {
    router
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(time_limit))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors())
        .layer(middleware::from_fn(trace))
}

async fn no_route(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Error::not_found("route", format!("{method} {path}")).into()
}

async fn wrong_method(method: Method) -> Problem {
    let error = Error::invalid("method", format!("{method} is not possible here"));
    Problem::with_status(error, StatusCode::METHOD_NOT_ALLOWED)
}

async fn time_limit(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(Error::timed_out("the request", "the API", TIME_LIMIT))
            .not_again()
            .into_response(),
    }
}

fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    tracing::error!(panic = text, "a handler panicked");
    Problem::from(Error::Internal { context: "a handler panicked".into(), source: None })
        .into_response()
}

/// Any page may call the API: what protects it is the key, which no browser sends by itself.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            NEXT_TOKEN,
            TOTAL_RUNNING,
            REQUEST_ID,
            header::RETRY_AFTER,
            HeaderName::from_static("should-retry"),
        ])
        .max_age(Duration::from_secs(3600))
}

/// One span and one line per request. Neither holds a header, a query or a body: those carry keys,
/// tokens and environments.
async fn trace(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path().chars().take(200).collect::<String>(),
        team = tracing::field::Empty,
    );
    let quiet = matches!(request.uri().path(), "/health" | "/ready");
    request.headers_mut().insert(REQUEST_ID, id.clone());
    async move {
        let started = tokio::time::Instant::now();
        let mut response = next.run(request).await;
        let status = response.status().as_u16();
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let code = response.extensions().get::<AnsweredCode>().map(|code| code.0);
        if quiet {
            tracing::debug!(status, ms, code, "answered");
        } else {
            tracing::info!(status, ms, code, "answered");
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id);
        // Answers hold keys and access tokens, and change by the second.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
    .instrument(span)
    .await
}

/// The caller's id where it is short and plain, else a fresh one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        (1..=64).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_kept_when_plain_and_made_otherwise() {
        let mut headers = HeaderMap::new();
        let made = request_id(&headers);
        assert_eq!(made.len(), 36);
        assert_ne!(made, request_id(&headers));
        headers.insert(REQUEST_ID, HeaderValue::from_static("abc-1.2_Z"));
        assert_eq!(request_id(&headers), "abc-1.2_Z");
        for bad in ["", "a b", "<script>", &"x".repeat(65)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            assert_eq!(request_id(&headers).len(), 36, "{bad}");
        }
    }
}
