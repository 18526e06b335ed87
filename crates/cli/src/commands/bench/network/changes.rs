//! How soon other rules count: from the request for them to the end of a flow that they forbid.

use std::{net::IpAddr, time::Duration};

use soulbox_wire::rest::NetworkUpdate;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

use super::{Figure, client::Client};
use crate::{
    client::{Remote, Server},
    commands::{bench::stats::Summary, interrupt::Interrupt},
    failure::{Failure, Result},
};

/// How often they change.
const CHANGES: u32 = 20;
/// A flow that lives longer is not cut.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn measure(
    server: &Server,
    remote: &Remote,
    address: IpAddr,
    interrupt: &Interrupt,
) -> Result<Figure> {
    let failed = || Failure::io(format!("a flow to {address}"));
    let listener = TcpListener::bind((address, 0)).await.map_err(failed())?;
    let at = listener.local_addr().map_err(failed())?;
    let (inside, nothing) = (Client::In(remote), NetworkUpdate::default());
    let all_denied =
        NetworkUpdate { allow_internet_access: Some(false), ..NetworkUpdate::default() };
    let mut taken = Vec::new();
    for _ in 0..CHANGES {
        interrupt.check()?;
        let greeted = async { greet(&listener).await.map_err(failed()) };
        let (held, flow) = tokio::try_join!(inside.hold(at, 1), greeted)?;
        let began = Instant::now();
        let cut = async {
            timeout(LIMIT, end_of(flow)).await.map(|()| began.elapsed()).map_err(|_| {
                Failure::Protocol("a flow that is no longer allowed went on".to_owned())
            })
        };
        let (_, took) = tokio::try_join!(server.put_network(remote.id(), &all_denied), cut)?;
        taken.push(took);
        held.end().await?;
        server.put_network(remote.id(), &nothing).await?;
    }
    let p50 = Summary::of(&mut taken).p50_ms;
    Ok(Figure::new("other rules, from the request to the end of a flow at P50", p50, "ms"))
}

async fn greet(listener: &TcpListener) -> std::io::Result<TcpStream> {
    let (mut flow, _) = listener.accept().await?;
    flow.write_all(b"+").await?;
    Ok(flow)
}

async fn end_of(mut flow: TcpStream) {
    while flow.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}
