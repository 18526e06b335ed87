//! The way out of a sandbox: connect and first byte, throughput, changed rules, memory, against the same
//! client on this machine.

mod changes;
mod client;
mod sealed;
mod target;
mod throughput;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use soulbox_wire::rest::{Network, NetworkRule, NetworkTransform, NewSandboxV2};

use super::{
    Figure, Interrupt, Report, Row,
    density::resident,
    trip::{in_one, in_one_of, request},
};
use crate::{
    args::bench,
    client::Remote,
    commands::subject::{Extra, Subject, fresh_dir, remove},
    failure::{Failure, Result},
    progress::Step,
    settings::Settings,
};
use client::Client;
use sealed::{NAME, Sealed};
use target::Target;

/// Connects of one turn.
const TURN: u32 = 50;
const KIB: f64 = 1024.0;
/// Lets the server settle before its memory is looked at.
const REST: Duration = Duration::from_secs(1);

/// Measures, with a server that may have been started for it.
pub(super) async fn run(
    settings: &Settings,
    args: &bench::Network,
    interrupt: &Interrupt,
) -> Result<Report> {
    let address = args.address.map_or_else(target::own_address, Ok)?;
    let dir = fresh_dir("bench")?;
    let measured = match Sealed::listen(address, &dir).await {
        Ok(host) => run_with(settings, args, interrupt, address, &host).await,
        Err(failure) => Err(failure),
    };
    remove(&dir);
    measured
}

async fn run_with(
    settings: &Settings,
    args: &bench::Network,
    interrupt: &Interrupt,
    address: IpAddr,
    host: &Sealed,
) -> Result<Report> {
    let extra = Extra {
        arguments: vec![
            "--allow-private-egress".to_owned(),
            address.to_string(),
            "--egress-dns".to_owned(),
            host.names.to_string(),
        ],
        environment: vec![("SSL_CERT_FILE", host.roots.clone())],
    };
    let subject = Subject::find_with(settings, args.on.template.clone(), interrupt, &extra).await?;
    let measured = everything(settings, &subject, address, host, args, interrupt).await;
    subject.end().await;
    measured
}

async fn everything(
    settings: &Settings,
    subject: &Subject,
    address: IpAddr,
    host: &Sealed,
    args: &bench::Network,
    interrupt: &Interrupt,
) -> Result<Report> {
    let work = async |remote: &Remote| {
        let target = Target::listen(address).await?;
        measure(settings, subject, remote, &target, args, interrupt).await
    };
    let mut report = in_one(subject, work).await?;
    // A server that ran before neither finds the host nor trusts it.
    if subject.is_temporary() {
        let new = NewSandboxV2 { network: Some(ruled()), ..request(&subject.template) };
        let work = async |remote: &Remote| {
            let (outside, inside) = (Client::Trusting(host.roots.clone()), Client::In(remote));
            let first = async |client: &Client<'_>| client.sealed(host.address, TURN).await;
            by_turns(settings, args, interrupt, &outside, &inside, first).await
        };
        let (mut direct, mut through) = in_one_of(subject, new, work).await?;
        let bottom = Row::floor("direct TLS, first byte", &mut direct);
        let above = Row::above("opened by a header rule, first byte", &mut through, &bottom);
        let more = above.summary.p50_ms - bottom.summary.p50_ms;
        report.figures.push(Figure::new("header rule, more than direct at P50", more, "ms"));
        report.rows.extend([bottom, above]);
    }
    Ok(report)
}

/// A header that is set on requests to the host.
fn ruled() -> Network {
    let headers = BTreeMap::from([("X-Bench".to_owned(), "1".to_owned())]);
    let transform = NetworkTransform { headers: Some(headers), ..NetworkTransform::default() };
    let rule = NetworkRule { transform: Some(transform), ..NetworkRule::default() };
    let rules = BTreeMap::from([(NAME.to_owned(), vec![rule])]);
    Network { rules: Some(rules), ..Network::default() }
}

/// What both clients measure, a turn of one after a turn of the other.
async fn by_turns(
    settings: &Settings,
    args: &bench::Network,
    interrupt: &Interrupt,
    outside: &Client<'_>,
    inside: &Client<'_>,
    measure: impl AsyncFn(&Client<'_>) -> Result<Vec<Duration>>,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let turns = args.number.div_ceil(TURN);
    let step = Step::count(&settings.output, u64::from(turns), "connecting");
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for turn in 0..=turns {
        interrupt.check()?;
        let (bare, led) = (measure(outside).await?, measure(inside).await?);
        // The first turn fills caches.
        if turn > 0 {
            direct.extend(bare);
            through.extend(led);
            step.advance(1);
        }
    }
    Ok((direct, through))
}

async fn measure(
    settings: &Settings,
    subject: &Subject,
    remote: &Remote,
    target: &Target,
    args: &bench::Network,
    interrupt: &Interrupt,
) -> Result<Report> {
    let (outside, inside) = (Client::Here, Client::In(remote));
    let at = target.address;
    inside.check(at).await?;

    let first = async |client: &Client<'_>| client.first(at, TURN).await;
    let (mut direct, mut through) =
        by_turns(settings, args, interrupt, &outside, &inside, first).await?;
    let bottom = Row::floor("direct, first byte", &mut direct);
    let above = Row::above("through, first byte", &mut through, &bottom);
    let more = above.summary.p50_ms - bottom.summary.p50_ms;
    let mut figures = vec![Figure::new("first byte, more than direct at P50", more, "ms")];

    let clients = (&outside, &inside);
    figures.extend(throughput::measure(settings, args, at.ip(), clients, interrupt).await?);
    figures.push(changes::measure(&subject.server, remote, at.ip(), interrupt).await?);
    if let Some(dir) = &subject.data_dir {
        figures.push(idle(dir, &inside, at, args.idle).await?);
    }
    let words = (
        "TCP from a live sandbox to a server on this machine, beyond the sandbox's own network",
        "the same client on this machine, to the same server",
    );
    let rows = vec![bottom, above];
    Ok(Report { figures, ..Report::new(subject, words, through.len(), rows) })
}

/// What one flow that nothing moves in takes of the server's memory.
async fn idle(dir: &Path, inside: &Client<'_>, at: SocketAddr, flows: u32) -> Result<Figure> {
    tokio::time::sleep(REST).await;
    let before = resident(dir)?;
    let held = inside.hold(at, flows).await?;
    tokio::time::sleep(REST).await;
    let after = resident(dir)?;
    held.end().await?;
    let each = after.saturating_sub(before) as f64 / f64::from(flows);
    Ok(Figure::new("server's memory for each idle flow", each / KIB, "KiB"))
}

/// A client that did not get through, and what to do about it.
fn refused(address: IpAddr) -> Failure {
    Failure::Environment {
        message: format!("sandboxes of this server may not reach {address}"),
        hint: format!(
            "start it with `soulbox serve --allow-private-egress {address}`, or stop it: this \
             command then starts a server of its own"
        ),
    }
}
