//! What a server said when it refused.

use std::time::Duration;

use soulbox_model::Error;
use soulbox_wire::rest::ErrorDetail;

use super::{Failure, Retry};

impl Failure {
    /// What the server said: its E2B error body, a Connect error, or a bare status.
    pub fn answer(status: u16, body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Body {
            message: String,
            #[serde(default)]
            soulbox: Option<ErrorDetail>,
            /// Connect errors name their code; REST errors repeat the status.
            #[serde(default)]
            code: serde_json::Value,
        }
        if let Ok(Body { message, soulbox, code }) = serde_json::from_slice(body) {
            let connect = code.as_str().and_then(Error::code_of_connect);
            let retry = match &soulbox {
                Some(detail) => Retry {
                    worthwhile: detail.retryable,
                    after: detail.retry_after_ms.map(Duration::from_millis),
                },
                None => Retry { worthwhile: status == 503, after: None },
            };
            let code = soulbox.map(|detail| detail.code).unwrap_or_else(|| {
                connect.unwrap_or_else(|| Error::code_of_status(status)).to_owned()
            });
            return Self::Answer { status, code, message, retry };
        }
        let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
        let message = match text.trim() {
            "" => format!("the server answered HTTP {status} without a text"),
            text => format!("the server answered HTTP {status}: {text}"),
        };
        let retry = Retry { worthwhile: status == 503, after: None };
        Self::Answer { status, code: Error::code_of_status(status).to_owned(), message, retry }
    }

    /// A Connect error from the end of a stream.
    pub fn connect(code: &str, message: String) -> Self {
        let name = Error::code_of_connect(code).unwrap_or("SB-INTERNAL");
        Self::Answer { status: 200, code: name.to_owned(), message, retry: Retry::default() }
    }
}
