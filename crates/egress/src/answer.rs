//! How a refusal reaches the program inside, in its own protocol.

use http::{HeaderName, HeaderValue};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{Reason, peek::Spoken};

/// Tells our answers from a server's.
pub(crate) const MARK: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-soulbox"), HeaderValue::from_static("egress"));

/// A fatal alert, `access_denied`.
const TLS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Says why and closes.
pub(crate) async fn refuse(mut stream: TcpStream, spoken: &Spoken, reason: &Reason, text: &str) {
    let status = match reason {
        Reason::UsedUp(_) => "429 Too Many Requests",
        Reason::ManyOpened => "503 Service Unavailable",
        _ => "403 Forbidden",
    };
    let said = match spoken {
        Spoken::Http(_) => stream.write_all(http(status, text).as_bytes()).await,
        Spoken::Tls(_) => stream.write_all(&TLS_DENIED).await,
        Spoken::More | Spoken::Text | Spoken::Other => return reset(&stream),
    };
    if said.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// Says that the destination did not answer, and closes.
pub(crate) async fn unreachable(mut stream: TcpStream, spoken: &Spoken, text: &str) {
    if let Spoken::Http(_) = spoken {
        let _ = stream.write_all(http("502 Bad Gateway", text).as_bytes()).await;
        let _ = stream.shutdown().await;
    } else {
        reset(&stream);
    }
}

/// The close that follows says that nothing was served, and not that all was sent.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

fn http(status: &str, text: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\nx-soulbox: egress\r\n\r\n{text}\n",
        text.len() + 1
    )
}
