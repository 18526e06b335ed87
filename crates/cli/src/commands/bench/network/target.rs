//! What is connected to: greets with one byte, then sends as many as it is asked for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::failure::{Failure, Result};

const BLOCK: usize = 256 << 10;

pub(super) struct Target {
    pub(super) address: SocketAddr,
    _serving: DropGuard,
}

impl Target {
    /// Serves where the scheduler likes.
    pub(super) async fn listen(address: IpAddr) -> Result<Self> {
        let failed = || Failure::io(format!("listening at {address}"));
        let listener = TcpListener::bind((address, 0)).await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener)));
        Ok(Self { address, _serving: stop.drop_guard() })
    }

    /// Serves on one processor, by a thread that ends with this.
    pub(super) fn on_processor(address: IpAddr, processor: u32) -> Result<Self> {
        let failed = || Failure::io(format!("listening at {address}"));
        let listener = std::net::TcpListener::bind((address, 0)).map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed())?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serve = move || {
            let mut only = CpuSet::new();
            only.set(processor as usize);
            sched_setaffinity(None, &only)?;
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                stopped.run_until_cancelled(accept(listener)).await;
                Ok::<_, std::io::Error>(())
            })
        };
        // Who cannot serve closes the listener, which the client tells.
        std::thread::Builder::new().name("target".into()).spawn(serve).map_err(failed())?;
        Ok(Self { address, _serving: stop.drop_guard() })
    }
}

async fn accept(listener: TcpListener) {
    let mut flows = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // A client that goes away ends its flow.
        flows.spawn(async move { drop(serve(stream).await) });
        while flows.try_join_next().is_some() {}
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
