//! One sandbox's way out, while it is served.

use std::{fmt, io, net::IpAddr, os::fd::AsFd, sync::Arc, time::Duration};

use parking_lot::Mutex;
use soulbox_model::network::{Domain, Egress};
use tokio::{
    io::Interest,
    net::{TcpListener, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Authority, Decision, Denial, Event, Owner, Policy, Reason, Service, Target, Traffic, Wire,
    carry::Pipes,
    dial::{Dialler, Undialled},
    dns::{self, Outcome, Over, Pins, Turns},
    doors::Doors,
    flow,
    rates::Rates,
    relay,
    secrets::Secrets,
    traffic::{Meter, Place},
};

/// Connections of one sandbox at a time; further ones wait to be accepted.
const FLOWS: usize = 1024;
/// Connections of one sandbox that are opened for their requests at a time.
const OPENED: usize = 128;
/// How long one more waits for its place among them.
const PLACE_WITHIN: Duration = Duration::from_secs(3);
/// Connections to hosts that these may have at a time.
const UPSTREAMS: usize = 512;
/// Questions of one sandbox under way.
const QUESTIONS: usize = 64;
/// Pipes of one sandbox that bulk transfers may use at a time.
const PIPES: usize = 64;
/// The longest question taken, in bytes.
pub(crate) const LONGEST_QUESTION: usize = 1232;
/// Before accepting again when the server has run out of descriptors.
const REST: Duration = Duration::from_millis(50);

/// Serves a sandbox's way out while it is held.
pub struct Gate {
    policy: watch::Sender<Arc<Policy>>,
    shared: Arc<Shared>,
    _serving: DropGuard,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

/// What the flows of one sandbox share.
pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    pub(crate) policy: watch::Receiver<Arc<Policy>>,
    pub(crate) pins: Pins,
    doors: Doors,
    pub(crate) turns: Turns,
    pub(crate) rates: Rates,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) upstreams: Arc<Semaphore>,
    opened: Arc<Semaphore>,
    authority: Mutex<Option<Arc<Authority>>>,
    owner: Arc<dyn Owner>,
    pub(crate) secrets: Secrets,
    pub(crate) pipes: Pipes,
}

impl Shared {
    fn new(
        service: Arc<Service>,
        policy: watch::Receiver<Arc<Policy>>,
        traffic: Arc<Traffic>,
        doors: Doors,
        owner: Arc<dyn Owner>,
    ) -> Self {
        Self {
            service,
            policy,
            pins: Pins::default(),
            doors,
            turns: Turns::default(),
            rates: Rates::default(),
            traffic,
            upstreams: Arc::new(Semaphore::new(UPSTREAMS)),
            opened: Arc::new(Semaphore::new(OPENED)),
            authority: Mutex::default(),
            secrets: Secrets::new(Arc::clone(&owner)),
            owner,
            pipes: Pipes::new(PIPES),
        }
    }

    pub(crate) fn denied(&self, protocol: &'static str, target: Target, reason: &Reason) {
        self.refused(protocol, target, reason.rule(), reason.to_string());
    }

    pub(crate) fn refused(
        &self,
        protocol: &'static str,
        target: Target,
        rule: String,
        reason: String,
    ) {
        self.told(protocol, &target, reason.clone());
        let denied = Event::new(Decision::Denied, protocol, target, rule);
        self.traffic.note(Event { reason: Some(reason), ..denied });
    }

    /// A flow that was allowed is cut; its end tells of it as an event.
    pub(crate) fn cut(&self, protocol: &'static str, meter: &Meter, reason: &Reason) {
        meter.cut(reason);
        self.told(protocol, meter.target(), reason.to_string());
    }

    fn told(&self, protocol: &'static str, target: &Target, reason: String) {
        self.owner.denied(Denial { protocol, target: target.to_string(), reason });
    }

    /// Tells why there is no connection.
    pub(crate) fn undialled(&self, target: Target, undialled: &Undialled) {
        let error = match undialled {
            Undialled::Refused(reason) => return self.denied("tcp", target, reason),
            Undialled::Failed(error) => error.to_string(),
        };
        let failed = Event::new(Decision::Failed, "tcp", target, "unreachable".to_owned());
        self.traffic.note(Event { reason: Some(error), ..failed });
    }

    /// A flow that begins now, to an address under a name if it has one.
    pub(crate) fn begin(&self, target: Target, names: Vec<Domain>) -> Meter {
        let rule = self.policy.borrow().allowing(target.address, target.name.as_ref());
        let place = Place { names, address: target.address };
        Meter::begin(&self.traffic, "tcp", target, place, rule)
    }

    /// A place for one more connection that is opened, if there is one or some other ends in time.
    pub(crate) async fn take_opened(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.opened).acquire_owned();
        timeout(PLACE_WITHIN, place).await.ok()?.ok()
    }

    /// In whose name TLS is opened, if the sandbox trusts anybody for that.
    pub(crate) fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.lock().clone()
    }

    pub(crate) fn dialler(&self, opened: bool) -> Dialler<'_> {
        Dialler { service: &self.service, turns: &self.turns, policy: &self.policy, opened }
    }

    /// Of the policy at the time when the question leaves: it may wait for its turn.
    pub(crate) async fn answer(&self, query: &[u8], over: Over) -> Option<Vec<u8>> {
        let mut changed = self.policy.clone();
        let (answer, outcome) = loop {
            let policy = Arc::clone(&changed.borrow_and_update());
            let resolver = &self.service.resolver;
            let asked = dns::answer(resolver, &policy, &self.pins, &self.turns, query, over);
            tokio::select! {
                biased;
                more = changed.changed() => more.ok()?,
                done = asked => break done,
            }
        };
        if let Some((name, outcome)) = outcome {
            self.asked(&name, outcome);
        }
        answer
    }

    fn asked(&self, name: &Domain, outcome: Outcome) {
        let (decision, rule, reason) = match outcome {
            Outcome::Denied(reason) => return self.denied("dns", Target::name(name), &reason),
            Outcome::Withheld(reason) => {
                (Decision::Denied, reason.rule(), Some(reason.to_string()))
            }
            Outcome::Failed(why) => (Decision::Failed, "unreachable".to_owned(), Some(why)),
            Outcome::Answered(addresses) => {
                let now = || Arc::clone(&self.policy.borrow());
                let policy = now();
                if policy.egress().udp.iter().any(|rule| rule.destination.names(name)) {
                    self.doors.add(now, &self.pins, name, &addresses);
                }
                (Decision::Allowed, policy.allowing(None, Some(name)), None)
            }
        };
        let event = Event::new(decision, "dns", Target::name(name), rule);
        self.traffic.note(Event { reason, ..event });
    }
}

impl Gate {
    pub(crate) fn open(
        service: Arc<Service>,
        wire: Wire,
        egress: Egress,
        authority: Option<Arc<Authority>>,
        traffic: Arc<Traffic>,
        owner: Arc<dyn Owner>,
    ) -> io::Result<Self> {
        traffic.limits().set(&egress.bytes);
        let listener = TcpListener::from_std(wire.tcp.into())?;
        let questions = UdpSocket::from_std(wire.udp.into())?;
        let datagrams = UdpSocket::from_std(wire.relay.socket.into())?;
        let datagrams = relay::Ends { socket: datagrams, answers: wire.relay.answers };
        let doors = Doors::new(wire.relay.doors);
        let (policy, watched) = watch::channel(Arc::new(service.policy(egress)));
        let shared = Arc::new(Shared::new(service, watched, traffic, doors, owner));
        *shared.authority.lock() = authority;
        let stop = CancellationToken::new();
        let steering = wire.steering;
        let accepting = accept(listener, Arc::clone(&shared));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let _steering = steering;
            accepting.await;
        }));
        let relaying = relay::serve(datagrams, Arc::clone(&shared));
        tokio::spawn(stop.clone().run_until_cancelled_owned(relaying));
        let resolving = resolve(questions, Arc::clone(&shared));
        tokio::spawn(stop.clone().run_until_cancelled_owned(resolving));
        let gate = Self { policy, shared, _serving: stop.drop_guard() };
        gate.open_doors();
        Ok(gate)
    }

    /// The sandbox trusts this authority from now on.
    pub fn trusts(&self, authority: Arc<Authority>) {
        *self.shared.authority.lock() = Some(authority);
    }

    /// In effect when this returns: for new connections, for questions, and for flows, of which
    /// those that are no longer allowed are cut.
    pub fn set(&self, egress: Egress) {
        self.shared.rates.keep(&egress.rates);
        self.shared.traffic.limits().set(&egress.bytes);
        self.policy.send_replace(Arc::new(self.shared.service.policy(egress)));
        self.open_doors();
    }

    fn open_doors(&self) {
        self.shared.doors.set(|| Arc::clone(&self.policy.borrow()), &self.shared.pins);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let turns = Arc::new(Semaphore::new(FLOWS));
    // Dropped with this future, and all flows with it.
    let mut flows = JoinSet::new();
    loop {
        while flows.try_join_next().is_some() {}
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                flows.spawn(async move {
                    flow::run(&shared, stream).await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a sandbox's connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn resolve(socket: UdpSocket, shared: Arc<Shared>) {
    let socket = Arc::new(socket);
    let mut questions = JoinSet::new();
    let mut buffer = vec![0; LONGEST_QUESTION];
    loop {
        while questions.try_join_next().is_some() {}
        if questions.len() >= QUESTIONS {
            questions.join_next().await;
        }
        let received = socket
            .async_io(Interest::READABLE, || {
                soulbox_sys::outward::receive(socket.as_fd(), &mut buffer)
            })
            .await;
        let Ok(datagram) = received else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let query = buffer.get(..datagram.length).unwrap_or_default().to_vec();
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        questions.spawn(async move {
            let Some(answer) = shared.answer(&query, Over::Udp).await else { return };
            let from: IpAddr = datagram.to.ip();
            // A full buffer inside loses the answer, as any network may.
            let _ = soulbox_sys::outward::send(socket.as_fd(), &answer, from, datagram.from);
        });
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use soulbox_model::network::SecretName;

    use super::*;
    use crate::Held;

    struct Nobody;

    #[async_trait::async_trait]
    impl Owner for Nobody {
        fn denied(&self, _: Denial) {}

        async fn secret(&self, _: &SecretName) -> Result<Option<Held>, String> {
            Ok(None)
        }
    }

    /// A gate without the ends of a sandbox.
    pub(crate) struct Parts {
        pub(crate) policy: watch::Sender<Arc<Policy>>,
        pub(crate) shared: Arc<Shared>,
    }

    pub(crate) fn parts(service: Arc<Service>, egress: Egress) -> Parts {
        let traffic = Arc::<Traffic>::default();
        traffic.limits().set(&egress.bytes);
        let (policy, watched) = watch::channel(Arc::new(service.policy(egress)));
        let table = std::fs::File::open("/dev/null").unwrap().into();
        let shared = Shared::new(service, watched, traffic, Doors::new(table), Arc::new(Nobody));
        Parts { policy, shared: Arc::new(shared) }
    }
}
