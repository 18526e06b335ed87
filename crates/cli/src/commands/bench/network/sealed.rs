//! A host that speaks TLS, and what a server needs to find and trust it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};
use tokio_util::task::AbortOnDropHandle;

use crate::failure::{Failure, Result};

/// What the host is called, in `client.py` too. Only our own name service is asked for it.
pub(super) const NAME: &str = "bench.example.com";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n+";
const LONGEST_REQUEST: usize = 8192;

pub(super) struct Sealed {
    pub(super) address: SocketAddr,
    /// Answers for its name.
    pub(super) names: SocketAddr,
    /// Who trusts this file trusts the host.
    pub(super) roots: PathBuf,
    _serving: [AbortOnDropHandle<()>; 2],
}

impl Sealed {
    /// Serves at `address`; its certificate goes into `dir`.
    pub(super) async fn listen(address: IpAddr, dir: &Path) -> Result<Self> {
        let failed = || Failure::io(format!("serving TLS at {address}"));
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])
            .map_err(|error| failed()(io::Error::other(error)))?;
        let roots = dir.join("host.pem");
        std::fs::write(&roots, made.cert.pem()).map_err(failed())?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| {
                config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)
            })
            .map_err(|error| failed()(io::Error::other(error)))?;
        let listener = TcpListener::bind((address, 0)).await.map_err(failed())?;
        let questions = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed())?;
        let (here, names) =
            (listener.local_addr().map_err(failed())?, questions.local_addr().map_err(failed())?);
        let serving = [
            tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)))),
            tokio::spawn(resolve(questions, address)),
        ];
        Ok(Self { address: here, names, roots, _serving: serving.map(AbortOnDropHandle::new) })
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) {
    let mut flows = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        // A client that goes away ends its flow.
        flows.spawn(async move { drop(serve(stream, acceptor).await) });
        while flows.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await? > 0 && request.len() < LONGEST_REQUEST {
        if request.ends_with(b"\r\n\r\n") {
            stream.write_all(ANSWER).await?;
            request.clear();
        }
    }
    Ok(())
}

/// Every name leads to `address`.
async fn resolve(socket: UdpSocket, address: IpAddr) {
    let mut buffer = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = buffer.get(..length).and_then(|query| answer(query, address)) {
            // Who hears nothing asks again.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// The answer to a question for one name: its address, if that is of the family that was asked for.
fn answer(query: &[u8], address: IpAddr) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let question = query.get(HEADER..)?;
    let name_end = question.iter().position(|byte| *byte == 0)? + 1;
    let kind = question.get(name_end..name_end + 2)?;
    let (number, data): (u8, Vec<u8>) = match address {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (28, v6.octets().to_vec()),
    };
    let found = kind == [0, number];
    let mut answer = query.get(..2)?.to_vec();
    // An answer without error; one question, so many answers.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    answer.extend(question.get(..name_end + 4)?);
    if found {
        // The name of the question, class IN, for 60 seconds.
        answer.extend([0xc0, 12, 0, number, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).ok()?]);
        answer.extend(data);
    }
    Some(answer)
}
