//! One connection of a sandbox, from its acceptance to its end.

use std::{io, net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use soulbox_model::network::Domain;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    answer, carry,
    dial::{Dialled, Undialled},
    dns::Over,
    gate::{LONGEST_QUESTION, Shared},
    intercept::{self, Opening},
    outside::Outside,
    peek::{self, Spoken, spoken, unfinished},
    policy::{Passed, Policy, Reason, Verdict},
    traffic::{Metered, Place, Target},
    unsaid::{Turn, until_said},
};

const DNS: u16 = 53;
/// How long a client may take to say where it goes.
const SPEAK_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait for a first byte where the server may be the one who speaks first.
const FIRST_WORD: Duration = Duration::from_millis(300);
/// How long the next question over TCP may take, and an answer to leave.
const QUESTION_WITHIN: Duration = Duration::from_secs(10);
/// How long the first one may take to begin, and each to come whole.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// How many bytes one has.
const QUESTION: RangeInclusive<usize> = 12..=LONGEST_QUESTION;

/// A stream whose first bytes were read already.
struct Opened {
    stream: TcpStream,
    head: Vec<u8>,
    spoken: Spoken,
}

impl Opened {
    /// Reads until the client has said what it speaks, or is quiet: before its first word, or in a line
    /// that may become one of HTTP.
    async fn hear(self, first_word: Duration, line: Duration) -> io::Result<Self> {
        let Self { mut stream, mut head, .. } = self;
        let deadline = Instant::now() + SPEAK_WITHIN;
        let spoken = loop {
            let until = match spoken(&head) {
                Spoken::More | Spoken::Text if head.len() >= peek::MOST => break unfinished(&head),
                Spoken::More if head.is_empty() => Instant::now() + first_word,
                Spoken::More => deadline,
                Spoken::Text => deadline.min(Instant::now() + line),
                known => break known,
            };
            let mut part = [0; 2048];
            match timeout_at(until, stream.read(&mut part)).await {
                Err(_) => break unfinished(&head),
                Ok(read) => match read? {
                    0 => break unfinished(&head),
                    length => head.extend_from_slice(part.get(..length).unwrap_or_default()),
                },
            }
        };
        Ok(Self { stream, head, spoken })
    }

    /// Who connects has not been listened to yet.
    fn unheard(stream: TcpStream) -> Self {
        Self { stream, head: Vec::new(), spoken: Spoken::More }
    }

    /// Says why not, in the protocol of the client.
    async fn refuse(self, target: &str, reason: &Reason) {
        let Ok(Self { stream, spoken, .. }) = self.heard().await else { return };
        answer::refuse(stream, &spoken, reason, &denial(target, reason)).await;
    }

    async fn give_up(self, target: &str, undialled: Undialled) {
        let error = match undialled {
            Undialled::Refused(reason) => return self.refuse(target, &reason).await,
            Undialled::Failed(error) => error,
        };
        let Ok(Self { stream, spoken, .. }) = self.heard().await else { return };
        let text = format!("{target} cannot be reached: {error}");
        answer::unreachable(stream, &spoken, &text).await;
    }

    async fn heard(self) -> io::Result<Self> {
        match self.spoken {
            Spoken::More => self.hear(FIRST_WORD, Duration::ZERO).await,
            _ => Ok(self),
        }
    }

    /// The host that it names itself.
    fn host(&self) -> Option<&Domain> {
        match &self.spoken {
            Spoken::Tls(host) => host.as_ref(),
            Spoken::Http(host) => host.as_ref().ok(),
            Spoken::More | Spoken::Text | Spoken::Other => None,
        }
    }
}

pub(crate) async fn run(shared: &Arc<Shared>, stream: TcpStream) {
    let Ok(local) = stream.local_addr() else { return };
    let target = SocketAddr::new(local.ip().to_canonical(), local.port());
    if target.port() == DNS && !is_inside(target) {
        let _ = questions(shared, stream, target).await;
        return;
    }
    let policy = Arc::clone(&shared.policy.borrow());
    let verdict = if is_inside(target) {
        Verdict::Denied(Reason::Inside)
    } else {
        policy.address(target.ip())
    };
    match verdict {
        // Only a connection that may have a rule is made to say where it goes before it goes there.
        Verdict::Allowed if !policy.egress().needs_names() => {
            by_address(shared, Opened::unheard(stream), target).await;
        }
        verdict @ (Verdict::Allowed | Verdict::ByName) => {
            let looked_into = shared.pins.name(target.ip(), |name| policy.egress().opens(name));
            // There, only those are served who say where they go, however long they take.
            let first = if looked_into.is_some() { SPEAK_WITHIN } else { FIRST_WORD };
            // What is no line of HTTP yet matters only where a name is needed.
            let line = if verdict == Verdict::ByName { FIRST_WORD } else { Duration::ZERO };
            let mut opened = Opened::unheard(stream).hear(first, line).await;
            while let Ok(said) = opened {
                match heard(shared, said, target).await {
                    Some(more) => opened = more.hear(first, line).await,
                    None => return,
                }
            }
        }
        Verdict::Denied(reason) => {
            shared.denied("tcp", Target::address(target), &reason);
            Opened::unheard(stream).refuse(&target.to_string(), &reason).await;
        }
    }
}

/// Only who connects to the listener itself gets here with such a destination.
pub(crate) fn is_inside(target: SocketAddr) -> bool {
    let ip = target.ip();
    ip.is_loopback() || ip == soulbox_sys::outward::OWN_V4 || ip == soulbox_sys::outward::OWN_V6
}

async fn by_address(shared: &Shared, opened: Opened, target: SocketAddr) {
    let mut names = shared.pins.names(target.ip());
    names.extend(opened.host().cloned());
    let place = Place { names, address: Some(target.ip()) };
    let dialled = match shared.traffic.limits().used_up(&place) {
        Some(used_up) => Err(Undialled::Refused(Reason::UsedUp(used_up))),
        None => shared.dialler(false).address(target).await,
    };
    let to = Target { name: opened.host().cloned(), ..Target::address(target) };
    match dialled {
        // By address, nothing that it says is judged.
        Ok(dialled) => drop(carry(shared, opened, dialled, target, place.names).await),
        Err(undialled) => {
            shared.undialled(to, &undialled);
            opened.give_up(&target.to_string(), undialled).await;
        }
    }
}

/// Serves a connection for whose host there is a rule, until the policy changes against it: against
/// where the sandbox thinks that it goes here, against what is dialled for it where that is kept.
async fn open(shared: &Arc<Shared>, opened: Opened, host: Domain, target: SocketAddr) {
    let sealed = matches!(opened.spoken, Spoken::Tls(_));
    let to = Target::named(&host, target);
    let place = to.to_string();
    let Some(_place) = shared.take_opened().await else {
        shared.denied("tcp", to, &Reason::ManyOpened);
        return opened.refuse(&place, &Reason::ManyOpened).await;
    };
    let Opened { stream, head, .. } = opened;
    let mut policy = shared.policy.clone();
    let passed = Passed {
        reached: target.ip(),
        name: Some(host.clone()),
        opened: true,
        proxy: policy.borrow().egress().proxy.clone(),
    };
    let cut = policy.wait_for(|policy| !policy.keeps(&passed));
    let opening = Opening { stream, head, sealed, host, port: target.port() };
    let served = tokio::select! {
        biased;
        _ = cut => return shared.denied("tcp", to, &Reason::NotAllowed),
        served = intercept::serve(Arc::clone(shared), opening) => served,
    };
    if let Err(error) = served {
        tracing::debug!(place, %error, "an opened connection ended badly");
    }
}

/// Goes on when the client has said where it goes, under the policy of this moment: it may have taken
/// its time. Returns the connection if only then it says something that must be judged.
async fn heard(shared: &Arc<Shared>, opened: Opened, target: SocketAddr) -> Option<Opened> {
    let policy = Arc::clone(&shared.policy.borrow());
    match policy.address(target.ip()) {
        Verdict::Allowed => {
            let host = opened.host().filter(|host| policy.egress().opens(host));
            if let Some(host) = host.cloned() {
                open(shared, opened, host, target).await;
                return None;
            }
            let unsaid = opened.host().is_none();
            let pinned = shared.pins.name(target.ip(), |name| policy.egress().opens(name));
            match pinned.filter(|_| unsaid) {
                None => by_address(shared, opened, target).await,
                Some(name) => refuse(shared, opened, target, &Reason::OnlyHttp(name)).await,
            }
            None
        }
        Verdict::ByName => by_name(shared, &policy, opened, target).await,
        Verdict::Denied(reason) => {
            refuse(shared, opened, target, &reason).await;
            None
        }
    }
}

async fn refuse(shared: &Shared, opened: Opened, target: SocketAddr, reason: &Reason) {
    shared.denied("tcp", Target::address(target), reason);
    opened.refuse(&target.to_string(), reason).await;
}

/// Which allowed name a connection is for.
///
/// # Errors
/// Why it is for none.
fn name_of(
    shared: &Shared,
    policy: &Policy,
    opened: &Opened,
    target: SocketAddr,
) -> Result<Domain, Reason> {
    match &opened.spoken {
        Spoken::Tls(None) => Err(Reason::Nameless),
        Spoken::Http(Err(why)) => Err(Reason::Unnamed(*why)),
        Spoken::Tls(Some(said)) | Spoken::Http(Ok(said)) if policy.name(said) => Ok(said.clone()),
        Spoken::Tls(Some(said)) | Spoken::Http(Ok(said)) => Err(Reason::Name(said.clone())),
        // A protocol that names no host: the name that our resolver gave this address for.
        Spoken::Other | Spoken::Text | Spoken::More => {
            let name = shared.pins.name(target.ip(), |name| policy.name(name));
            let name = name.ok_or(Reason::NotAllowed)?;
            // What is no HTTP cannot be looked into.
            if policy.egress().opens(&name) { Err(Reason::OnlyHttp(name)) } else { Ok(name) }
        }
    }
}

async fn by_name(
    shared: &Arc<Shared>,
    policy: &Policy,
    opened: Opened,
    target: SocketAddr,
) -> Option<Opened> {
    let name = match name_of(shared, policy, &opened, target) {
        Ok(name) => name,
        Err(reason) => {
            refuse(shared, opened, target, &reason).await;
            return None;
        }
    };
    // Each request in the clear says anew which host it is for, and is judged by that.
    if matches!(opened.spoken, Spoken::Http(_)) || policy.egress().opens(&name) {
        open(shared, opened, name, target).await;
        return None;
    }
    let place = Place { names: vec![name.clone()], address: None };
    let dialled = match shared.traffic.limits().used_up(&place) {
        Some(used_up) => Err(Undialled::Refused(Reason::UsedUp(used_up))),
        None => shared.dialler(false).name(&name, target.port()).await,
    };
    match dialled {
        Ok(dialled) => carry(shared, opened, dialled, target, place.names).await,
        Err(undialled) => {
            let to = Target { address: None, ..Target::named(&name, target) };
            let place = to.to_string();
            shared.undialled(to, &undialled);
            opened.give_up(&place, undialled).await;
            None
        }
    }
}

fn denial(target: &str, reason: &Reason) -> String {
    format!("SoulBox refused a connection of this sandbox to {target}: {reason}.")
}

/// Carries bytes both ways until both ends are done, the policy changes against it, or it had all that
/// it may have. Where the sandbox thinks that it goes is `target`; it counts under `names`. Returns the
/// connection if it turns out to name a host itself.
async fn carry(
    shared: &Shared,
    mut opened: Opened,
    (mut outside, passed): Dialled,
    target: SocketAddr,
    names: Vec<Domain>,
) -> Option<Opened> {
    let unsaid = opened.spoken == Spoken::Text && passed.name.is_some();
    let said = passed.name.clone().or_else(|| opened.host().cloned());
    let reached = match (&passed.proxy, outside.peer_addr()) {
        (None, Ok(peer)) => peer.ip().to_canonical(),
        _ => target.ip(),
    };
    let to = Target { name: said, ..Target::address(SocketAddr::new(reached, target.port())) };
    let meter = Arc::new(shared.begin(to, names));
    let mut policy = shared.policy.clone();
    let cut = policy.wait_for(|policy| !policy.keeps(&passed));
    let Opened { stream: inside, head, .. } = &mut opened;
    let work = async {
        inside.set_nodelay(true)?;
        let mut counted = Metered::new(&mut outside, Arc::clone(&meter));
        if unsaid {
            // On the heap: its buffers are not for the flows that need none.
            match Box::pin(until_said(inside, &mut counted, head)).await? {
                Turn::Other => {}
                turn => return io::Result::Ok(turn),
            }
        } else {
            counted.write_all(head).await?;
        }
        *head = Vec::new();
        let pipes = [&shared.pipes, &shared.service.pipes];
        match &mut outside {
            Outside::Plain(outside) => carry::both_ways(inside, outside, pipes, &meter).await?,
            sealed => {
                let mut counted = Metered::new(sealed, Arc::clone(&meter));
                tokio::io::copy_bidirectional(inside, &mut counted).await?;
            }
        }
        Ok(Turn::Other)
    };
    // The policy first: what it no longer allows must not send one byte.
    let was_cut = tokio::select! {
        biased;
        _ = cut => Some(Reason::NotAllowed),
        turn = work => match turn {
            Ok(Turn::Named) => return Some(opened),
            Ok(Turn::Late) => Some(Reason::LateHttp),
            Ok(Turn::Other) | Err(_) => meter.was_cut(),
        },
    };
    if let Some(reason) = was_cut {
        let _ = opened.stream.set_zero_linger();
        outside.reset();
        shared.cut("tcp", &meter, &reason);
    }
    None
}

/// DNS over TCP.
async fn questions(shared: &Shared, mut stream: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut patience = ASK_WITHIN;
    loop {
        let length = timeout(patience, stream.read_u16()).await??;
        patience = QUESTION_WITHIN;
        // The first two characters of other protocols say more than a question has.
        if !QUESTION.contains(&usize::from(length)) {
            return no_question(shared, &stream, target);
        }
        let mut query = vec![0; usize::from(length)];
        timeout(ASK_WITHIN, stream.read_exact(&mut query)).await??;
        let Some(answer) = shared.answer(&query, Over::Tcp).await else {
            return no_question(shared, &stream, target);
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        timeout(QUESTION_WITHIN, stream.write_all(&framed)).await??;
    }
}

fn no_question(shared: &Shared, stream: &TcpStream, target: SocketAddr) -> io::Result<()> {
    shared.denied("tcp", Target::address(target), &Reason::OnlyQuestions);
    stream.set_zero_linger()
}
