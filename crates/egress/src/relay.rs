//! Datagrams that a rule lets out: one socket of the host's for each flow, connected to where the
//! sandbox sends, so that nobody else's answers come back.
//!
//! A datagram in makes one datagram out and never more. The kernel refuses what no door is open for
//! before it gets here; the rules decide here once more.

mod places;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
pub(crate) use places::Places;
use places::{Table, Turn};
use rustix::net::SendFlags;
use soulbox_model::network::Domain;
use soulbox_sys::outward::{self, Datagram};
use tokio::{
    io::Interest,
    net::UdpSocket,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Reason, Target,
    dial::is_own,
    flow::is_inside,
    gate::Shared,
    traffic::{Meter, Place, Way},
};

/// Flows of one sandbox at a time.
const FLOWS: usize = 256;
/// A flow into which nothing was sent for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams out of one sandbox: so many a second, and so many at once.
const RATE: f64 = 5000.0;
/// Before more are taken when there were too many.
const REST: Duration = Duration::from_millis(10);
/// Of them, those that begin a flow or try to, which costs the host more.
const BEGINNINGS: f64 = 100.0;
const BEGINNINGS_AT_ONCE: f64 = 512.0;
/// What one datagram may hold, in bytes.
const LONGEST: usize = 65_535;
/// Datagrams that are taken before others have their turn.
const AT_ONCE: usize = 64;

/// The host's ends of the relay.
pub(crate) struct Ends {
    pub(crate) socket: UdpSocket,
    pub(crate) answers: [OwnedFd; 2],
}

/// Who sends, and where to.
type Key = (SocketAddr, SocketAddr);

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    meter: Meter,
    names: Vec<Domain>,
    used: Mutex<Instant>,
    /// Its own until it gives way.
    turn: Mutex<Option<Turn>>,
}

impl Flow {
    /// Moves nothing from now on, and ends soon.
    fn give_way(&self) -> Option<Turn> {
        self.meter.cut(&Reason::CrowdedUdp);
        self.turn.lock().take()
    }
}

/// So many datagrams more may go, so many are gained in a second, and so many are kept.
struct Allowance {
    left: f64,
    rate: f64,
    most: f64,
    since: Instant,
}

impl Allowance {
    fn new(rate: f64, most: f64) -> Self {
        Self { left: most, rate, most, since: Instant::now() }
    }

    fn has_any(&mut self) -> bool {
        let now = Instant::now();
        let gained = (now - self.since).as_secs_f64() * self.rate;
        self.left = (self.left + gained).min(self.most);
        self.since = now;
        self.left >= 1.0
    }

    fn take(&mut self) -> bool {
        let granted = self.has_any();
        self.left -= if granted { 1.0 } else { 0.0 };
        granted
    }
}

/// Serves datagrams until it is dropped, and all flows with it.
pub(crate) async fn serve(ends: Ends, shared: Arc<Shared>) {
    let ends = Arc::new(ends);
    let table = shared.service.datagrams.table();
    let mut allowance = Allowance::new(RATE, RATE);
    let mut beginnings = Allowance::new(BEGINNINGS, BEGINNINGS_AT_ONCE);
    let mut flows = JoinSet::new();
    while ends.socket.readable().await.is_ok() {
        // Only while something comes, which in most sandboxes is never.
        let mut buffer = vec![0; LONGEST];
        for _ in 0..AT_ONCE {
            while flows.try_join_next().is_some() {}
            if !allowance.has_any() {
                // The kernel drops what its queue does not hold, which costs the server nothing.
                sleep(REST).await;
                break;
            }
            let Ok(datagram) = receive(&ends.socket, &mut buffer) else { break };
            let payload = buffer.get(..datagram.length).unwrap_or_default();
            // Who sends as somebody outside would have answers go there, through us once more.
            let foreign = is_inside(datagram.to) || !is_inside(datagram.from);
            if !allowance.take() || foreign {
                continue;
            }
            let key = (datagram.from, datagram.to);
            let known = table.get(&key);
            let is_new = known.is_none();
            let flow = match known {
                Some(flow) => flow,
                None if !beginnings.take() => continue,
                None => match begin(&shared, &table, key) {
                    Some(flow) => {
                        let (ends, table) = (Arc::clone(&ends), Arc::clone(&table));
                        flows.spawn(follow(
                            Arc::clone(&shared),
                            ends,
                            table,
                            key,
                            Arc::clone(&flow),
                        ));
                        flow
                    }
                    None => continue,
                },
            };
            *flow.used.lock() = Instant::now();
            // A full buffer or an unreachable host loses it, as any network may.
            let _ = flow.meter.write(Way::Sent, payload.len(), |most| {
                whole(most, payload.len())?;
                // Not by the runtime, which does not know of a new socket yet that it takes something.
                Ok(rustix::net::send(&flow.socket, payload, SendFlags::DONTWAIT)?)
            });
            if is_new {
                // The socket of a flow that gave way for it is there until that flow had its turn.
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    socket.try_io(Interest::READABLE, || outward::receive(socket.as_fd(), buffer))
}

/// A part of a datagram is none.
fn whole(most: usize, length: usize) -> io::Result<()> {
    if most < length { Err(io::ErrorKind::QuotaExceeded.into()) } else { Ok(()) }
}

fn begin(shared: &Shared, table: &Table, key: Key) -> Option<Arc<Flow>> {
    let to = key.1;
    let target = Target::address(to);
    if table.len() >= FLOWS {
        shared.denied("udp", target, &Reason::ManyFlows);
        return None;
    }
    match open(shared, table, to) {
        Ok(Ok(flow)) => {
            let flow = Arc::new(flow);
            table.add(key, Arc::clone(&flow));
            Some(flow)
        }
        Ok(Err(reason)) => {
            shared.denied("udp", target, &reason);
            None
        }
        Err(error) => {
            tracing::debug!(%error, %to, "no socket for a flow of datagrams");
            None
        }
    }
}

fn open(shared: &Shared, table: &Table, to: SocketAddr) -> io::Result<Result<Flow, Reason>> {
    let names = shared.pins.names(to.ip());
    let place = Place { names: names.clone(), address: Some(to.ip()) };
    if let Some(used_up) = shared.traffic.limits().used_up(&place) {
        return Ok(Err(Reason::UsedUp(used_up)));
    }
    let policy = Arc::clone(&shared.policy.borrow());
    let rule = match policy.udp(to, &names) {
        Ok(rule) => format!("udp {rule}"),
        Err(reason) => return Ok(Err(reason)),
    };
    if !policy.opened(to.ip()) && is_own(to.ip())? {
        return Ok(Err(Reason::Own));
    }
    let Some(turn) = shared.service.datagrams.take(table) else {
        return Ok(Err(Reason::CrowdedUdp));
    };
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    // Nothing waits here: the rules are still those that were asked.
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let target = Target { name: names.last().cloned(), ..Target::address(to) };
    let meter = Meter::begin(&shared.traffic, "udp", target, place, rule);
    let (used, turn) = (Mutex::new(Instant::now()), Mutex::new(Some(turn)));
    Ok(Ok(Flow { socket, meter, names, used, turn }))
}

/// Carries answers back until the flow is idle, forbidden or used up.
async fn follow(
    shared: Arc<Shared>,
    ends: Arc<Ends>,
    table: Arc<Table>,
    key: Key,
    flow: Arc<Flow>,
) {
    let (from, to) = key;
    let mut policy = shared.policy.clone();
    let cut = policy.wait_for(|policy| policy.udp(to, &flow.names).is_err());
    let was_cut = tokio::select! {
        biased;
        _ = cut => Some(Reason::NoUdp),
        reason = flow.meter.until_cut() => Some(reason),
        () = idle(&flow) => None,
        () = answers(&ends, &flow, from, to) => None,
    };
    table.remove(key, &flow);
    if let Some(reason) = was_cut {
        shared.cut("udp", &flow.meter, &reason);
    }
}

async fn idle(flow: &Flow) {
    loop {
        let until = *flow.used.lock() + IDLE;
        if until <= Instant::now() {
            return;
        }
        sleep_until(until).await;
    }
}

/// The length of what `to` sent; of what others did, none. What came to the port before its socket was
/// connected is from anybody.
fn hear(socket: &UdpSocket, to: SocketAddr, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let (length, sender) = socket.try_recv_from(buffer)?;
    Ok(Some(length).filter(|_| (sender.ip(), sender.port()) == (to.ip(), to.port())))
}

async fn answers(ends: &Ends, flow: &Flow, from: SocketAddr, to: SocketAddr) {
    while flow.socket.readable().await.is_ok() {
        let mut buffer = vec![0; LONGEST];
        for _ in 0..AT_ONCE {
            // Unreachable for now, as the network says; or nothing more.
            let Ok(heard) = hear(&flow.socket, to, &mut buffer) else { break };
            let Some(length) = heard else { continue };
            let payload = buffer.get(..length).unwrap_or_default();
            let _ = flow.meter.write(Way::Received, length, |most| {
                whole(most, length)?;
                outward::answer(&ends.answers, payload, to, from).map(|()| length)
            });
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use soulbox_model::network::Egress;

    use super::*;
    use crate::{
        Config, Service,
        gate::tests::{Parts, parts},
    };

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_so_many_a_second() {
        let mut allowance = Allowance::new(RATE, 100.0);
        assert_eq!((0..1000).filter(|_| allowance.take()).count(), 100);
        assert!(!allowance.has_any());
        sleep(REST).await;
        assert!(allowance.has_any() && allowance.has_any(), "to ask takes nothing");
        let gained = (0..1000).filter(|_| allowance.take()).count();
        assert!((50..60).contains(&gained), "{gained}");
    }

    #[tokio::test]
    async fn what_came_before_a_flow_was_connected_is_no_answer() {
        let [stranger, to, flow] =
            ["127.0.0.1:0"; 3].map(|at| std::net::UdpSocket::bind(at).unwrap());
        let at = flow.local_addr().unwrap();
        stranger.send_to(b"forged", at).unwrap();
        flow.connect(to.local_addr().unwrap()).unwrap();
        to.send_to(b"said", at).unwrap();
        flow.set_nonblocking(true).unwrap();
        let flow = UdpSocket::from_std(flow).unwrap();
        flow.readable().await.unwrap();
        let next = || hear(&flow, to.local_addr().unwrap(), &mut [0; 10]).unwrap();
        assert_eq!((next(), next()), (None, Some(4)));
    }

    pub(super) fn letting(rules: &[String]) -> Parts {
        let private = vec!["127.0.0.0/8".parse().unwrap()];
        let service = Service::new(Config { private, ..Config::default() });
        let mut egress = Egress::of_internet(false);
        egress.udp = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        parts(service, egress)
    }
}
