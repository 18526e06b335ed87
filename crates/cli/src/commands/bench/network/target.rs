//! What is connected to: greets with one byte, then sends as many as it is asked for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::failure::{Failure, Result};

const BLOCK: usize = 256 << 10;

pub(super) struct Target {
    pub(super) address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Target {
    pub(super) async fn listen(address: IpAddr) -> Result<Self> {
        let failed = || Failure::io(format!("listening at {address}"));
        let listener = TcpListener::bind((address, 0)).await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let serving = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut flows = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its flow.
                flows.spawn(async move { drop(serve(stream).await) });
                while flows.try_join_next().is_some() {}
            }
        }));
        Ok(Self { address, _serving: serving })
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"+").await?;
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::with_capacity(64, reader).lines();
    let block = vec![0x5a; BLOCK];
    while let Some(line) = lines.next_line().await? {
        let mut left: usize = line.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
        while left > 0 {
            let part = block.get(..left.min(BLOCK)).unwrap_or(&block);
            writer.write_all(part).await?;
            left -= part.len();
        }
    }
    Ok(())
}

/// An address of this machine that is no loopback: what leads to the internet begins there. Sends
/// nothing.
pub(super) fn own_address() -> Result<IpAddr> {
    let somewhere = Ipv4Addr::new(192, 0, 2, 1);
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((somewhere, 9)).and_then(|()| socket.local_addr()));
    match found.map(|local| local.ip()) {
        Ok(address) if !address.is_loopback() => Ok(address),
        _ => Err(Failure::Environment {
            message: "this machine has no address but loopback, which sandboxes never leave".into(),
            hint:
                "name one with --address, such as one added by `ip addr add 198.18.0.1/32 dev lo`"
                    .into(),
        }),
    }
}
