//! Bodies, query strings, paths and keys of the control plane.

use soulbox_api::fuzzing;
use soulbox_control::{Limits, fuzzing::admits};
use soulbox_model::{Port, SandboxId, TemplateId, boot::MAX_MESSAGE};
use soulbox_wire::rest::{Connect, ConnectV2, Refresh, Resume, Timeout};

use crate::input::{self, Input};

/// A body is refused with a status of the client's fault, or becomes a request that can be kept:
/// what is admitted fits into the message to the agent and into an environment.
pub fn create(data: &[u8]) {
    let mut input = Input::new(data);
    let v2 = input.byte() & 1 == 1;
    match fuzzing::create(input.rest(), v2) {
        Err(status) => assert!(matches!(status, 400 | 501), "{status}"),
        Ok(request) => {
            assert!(!v2 || request.secure, "version 2 is always secured");
            assert_eq!(fuzzing::template_name(&request.template).as_ref(), Ok(&request.template));
            if admits(&request, &Limits::default()) {
                assert!(request.env.iter().all(|(name, value)| {
                    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
                }));
                let message = serde_json::to_vec(&request.env).expect("has a JSON form");
                assert!(message.len() < MAX_MESSAGE / 2);
            }
        }
    }
}

/// The small bodies.
pub fn bodies(data: &[u8]) {
    fn refused<T>(result: Result<T, u16>) {
        assert!(matches!(result.err(), None | Some(400)));
    }
    refused(fuzzing::body::<Connect>(data));
    refused(fuzzing::body::<ConnectV2>(data));
    refused(fuzzing::body::<Timeout>(data));
    refused(fuzzing::body::<Refresh>(data));
    refused(fuzzing::body::<Resume>(data));
}

/// A query string has at most so many pairs, and what is asked of it is answered.
pub fn query(data: &[u8]) {
    let mut input = Input::new(data);
    let key = String::from_utf8_lossy(input.line()).into_owned();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match fuzzing::query(text) {
        Err(status) => assert_eq!(status, 400),
        Ok(query) => {
            for key in [key.as_str(), "limit", "metadata", "start", "state", "sandbox_ids"] {
                fuzzing::ask(&query, key);
                if let Ok(Some(number)) = query.integer(key, 1..=100) {
                    assert!((1..=100).contains(&number));
                }
                if let Ok(Some(date)) = query.date(key) {
                    assert!(!date.to_rfc3339().is_empty());
                }
            }
        }
    }
}

/// What is a valid name is written as it was read.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<SandboxId>() {
        assert!(text.starts_with(id.as_str()) && id.as_str().parse() == Ok(id.clone()));
    }
    if let Ok(id) = fuzzing::sandbox_id(text) {
        assert_eq!(text.split('-').next(), Some(id.as_str()));
    }
    if let Ok(id) = text.parse::<TemplateId>() {
        assert!(id.as_str() == text && !text.contains(['/', '.']));
    }
    if let Ok(port) = text.parse::<Port>() {
        assert_eq!(port.to_string(), text);
    }
    if let Ok(name) = fuzzing::template_name(text) {
        assert_eq!(fuzzing::template_name(&name).as_ref(), Ok(&name), "not canonical");
        assert!(!name.split(['/', ':']).any(|part| part.is_empty()), "{name}");
        assert!(name.len() <= 4 * 128 + 2 && name.matches('/').count() <= 1);
    }
}

/// Keys are taken from one place alone, and only such as this server makes.
pub fn keys(data: &[u8]) {
    let mut input = Input::new(data);
    let headers = input::headers(&mut input);
    match fuzzing::key(&headers) {
        Err(status) => assert_eq!(status, 401),
        Ok(Some(key)) => {
            assert!(key.starts_with("e2b_") && key.len() <= 128);
            assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            if headers.contains_key("x-api-key") {
                assert_eq!(headers.get_all("x-api-key").iter().count(), 1);
                assert_eq!(headers["x-api-key"], key.as_str());
            }
        }
        Ok(None) => {}
    }
    match fuzzing::idempotency_key(&headers) {
        Err(status) => assert_eq!(status, 400),
        Ok(key) => assert_eq!(key.is_some(), headers.contains_key("idempotency-key")),
    }
}
