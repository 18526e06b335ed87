//! Connections to an allowed name whose client did not say at once what it speaks.
//!
//! The server may be the one who speaks first, so bytes go both ways meanwhile; but nothing that a server
//! could take for the line of a request leaves before it was judged.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::peek::{self, Spoken};

/// What is read at once, in bytes.
const PART: usize = 2048;

/// What it turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing that names a host. All that was heard has been passed on.
    Other,
    /// It names a host, or begins to, and nothing was passed on yet in either direction.
    Named,
    /// A request, when it is too late to judge it.
    Late,
}

/// Passes on what comes until it is clear what the client speaks. It has said `head` so far.
///
/// # Errors
/// If either side is gone.
pub(crate) async fn until_said<I, O>(
    inside: &mut I,
    outside: &mut O,
    head: &mut Vec<u8>,
) -> io::Result<Turn>
where
    I: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sent, mut answered) = (0, false);
    // Who has said all: the client, the server.
    let (mut ended, mut closed) = (false, false);
    let (mut out, mut back) = ([0; PART], [0; PART]);
    loop {
        let whole = ended || head.len() >= peek::MOST;
        let said = if whole { peek::unfinished(head) } else { peek::spoken(head) };
        let judged = sent == 0 && !answered && !head.is_empty();
        match said {
            Spoken::Tls(_) | Spoken::Http(_) | Spoken::More if judged => return Ok(Turn::Named),
            Spoken::Http(_) => return Ok(Turn::Late),
            Spoken::More => {}
            // Where the server has spoken first, nobody begins TLS.
            Spoken::Text | Spoken::Other | Spoken::Tls(_) => {
                outside.write_all(head.get(sent..).unwrap_or_default()).await?;
                sent = head.len();
                if ended || said != Spoken::Text {
                    return Ok(Turn::Other);
                }
            }
        }
        tokio::select! {
            read = inside.read(&mut out) => {
                let length = read?;
                ended = length == 0;
                head.extend_from_slice(out.get(..length).unwrap_or_default());
            }
            read = outside.read(&mut back), if !closed => {
                let length = read?;
                (answered, closed) = (true, length == 0);
                inside.write_all(back.get(..length).unwrap_or_default()).await?;
                if closed {
                    inside.shutdown().await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::duplex,
        time::{Duration, timeout},
    };

    use super::*;

    /// What comes of it if the client says these one after the other, and what the server got.
    async fn turn(said: &[&str], banner: &str) -> (io::Result<Turn>, String) {
        let ((mut inside, mut client), (mut outside, mut server)) = (duplex(9999), duplex(9999));
        server.write_all(banner.as_bytes()).await.unwrap();
        let client = async move {
            client.read_exact(&mut vec![0; banner.len()]).await.unwrap();
            for part in said {
                client.write_all(part.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            client
        };
        let mut head = Vec::new();
        let both = async { tokio::join!(until_said(&mut inside, &mut outside, &mut head), client) };
        let (turned, _client) = timeout(Duration::from_secs(5), both).await.expect("an end");
        drop(outside);
        let mut got = String::new();
        server.read_to_string(&mut got).await.unwrap();
        (turned, got)
    }

    #[tokio::test]
    async fn a_request_is_not_passed_on_unjudged() {
        for said in
            [["GET / HTTP/1.1\r\n", "Host: a.com\r\n\r\n"], ["\x16\x03", "\x01"], ["GE", "T"]]
        {
            let (turned, got) = turn(&said, "").await;
            assert_eq!((turned.unwrap(), got.as_str()), (Turn::Named, ""), "{said:?}");
        }
        for (said, banner, passed) in [
            (["BR", "EW /evil HTTP/1.1\r\n\r\n"], "", "BR"),
            (["BREW /evil ", "HTTP/1.1\r\n\r\n"], "", "BREW /evil "),
            (["GET / HTTP/1.1\r\n", "Host: a.com\r\n\r\n"], "220 hello\r\n", ""),
            (["PRI * HTTP/2.0\r\n", "\r\n"], "\0\0\0\x04\0\0\0\0\0", ""),
        ] {
            let (turned, got) = turn(&said, banner).await;
            assert_eq!((turned.unwrap(), got.as_str()), (Turn::Late, passed), "{said:?}");
        }
    }

    #[tokio::test]
    async fn other_protocols_are_passed_on() {
        for (said, banner) in [
            (["EHLO a.com\r\n", "QUIT\r\n"], "220 hello\r\n"),
            (["\0\x01\x02", "x"], ""),
            (["SSH-2.0-", "x\r\n"], "SSH-2.0-y\r\n"),
        ] {
            let (turned, got) = turn(&said, banner).await;
            assert_eq!(turned.unwrap(), Turn::Other);
            assert!(said.concat().starts_with(&got) && !got.is_empty(), "{got:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_line_yet_is_answered() {
        let ((mut inside, mut client), (mut outside, mut server)) = (duplex(99), duplex(99));
        let mut head = b"hello".to_vec();
        let talk = async {
            let mut said = [0; 5];
            server.read_exact(&mut said).await.unwrap();
            server.write_all(&said).await.unwrap();
            client.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"hello");
            client.shutdown().await.unwrap();
        };
        let both = async { tokio::join!(until_said(&mut inside, &mut outside, &mut head), talk) };
        let (turned, ()) = timeout(Duration::from_secs(5), both).await.unwrap();
        assert_eq!(turned.unwrap(), Turn::Other);
    }
}
