//! Asking the host's name servers.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use soulbox_model::network::Domain;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    Turns,
    message::{self, A, AAAA, LONGEST_DATAGRAM, Question},
    records,
    turns::Places,
};
use crate::{Policy, dial::is_own};

/// How long one server may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all servers together may take, the wait for a turn included.
const ALL_WITHIN: Duration = Duration::from_secs(6);
/// Questions under way for all sandboxes together, each with a descriptor: so many, or fewer of as many
/// as this process may have.
const AT_ONCE: RangeInclusive<usize> = 256..=4096;
/// Which part of the descriptors.
const PART: u64 = 8;
const PORT: u16 = 53;

#[derive(Debug)]
pub(crate) struct Resolver {
    configured: Vec<SocketAddr>,
    places: Places,
}

impl Resolver {
    /// Asks `configured`, or what `/etc/resolv.conf` names at that moment.
    pub(crate) fn new(configured: Vec<SocketAddr>) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let at_once = usize::try_from(descriptors / PART).unwrap_or(usize::MAX);
        let places = Places::new(at_once.clamp(*AT_ONCE.start(), *AT_ONCE.end()));
        Self { configured, places }
    }

    /// Those of the sandbox's owner, if any, which must be reachable like anything else.
    async fn servers(&self, policy: &Policy) -> Vec<SocketAddr> {
        if let Some(servers) = policy.egress().dns_servers.as_ref().filter(|some| !some.is_empty())
        {
            let reachable = servers.iter().map(|server| IpAddr::V4(*server));
            return reachable
                .filter(|server| policy.reachable(*server).is_ok())
                .filter(|server| policy.opened(*server) || !is_own(*server).unwrap_or(true))
                .map(|server| SocketAddr::new(server, PORT))
                .collect();
        }
        if !self.configured.is_empty() {
            return self.configured.clone();
        }
        let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
        name_servers(&text)
    }

    /// The whole answer to a question, with an id of our choice, and with all its records.
    pub(super) async fn ask(
        &self,
        policy: &Policy,
        turns: &Turns,
        question: &Question,
    ) -> io::Result<Vec<u8>> {
        let asked = async {
            let _own = turns.wait().await?;
            self.places.within(turns, self.ask_all(policy, question)).await
        };
        timeout(ALL_WITHIN, asked).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn ask_all(&self, policy: &Policy, question: &Question) -> io::Result<Vec<u8>> {
        let mut last = io::Error::other("no name server is configured");
        for server in self.servers(policy).await {
            match timeout(PATIENCE, ask_one(server, question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// The addresses of a name, IPv4 first.
    pub(crate) async fn addresses(
        &self,
        policy: &Policy,
        turns: &Turns,
        name: &Domain,
    ) -> io::Result<Vec<IpAddr>> {
        if !turns.take() {
            return Err(io::Error::other("this sandbox asks for too many names"));
        }
        let (v4, v6) = (Question::new(name, A), Question::new(name, AAAA));
        let (v4, v6) = tokio::join!(self.ask(policy, turns, &v4), self.ask(policy, turns, &v6));
        if let (Err(error), Err(_)) = (&v4, &v6) {
            return Err(io::Error::new(error.kind(), format!("{name}: {error}")));
        }
        let found = |answer: io::Result<Vec<u8>>| {
            answer.map(|answer| records::addresses(&answer)).unwrap_or_default()
        };
        let mut addresses = found(v4);
        addresses.extend(found(v6));
        Ok(addresses)
    }
}

/// A socket and a port of its own for each question: an answer cannot be guessed.
async fn ask_one(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id: u16 = rand::random();
    socket.send(&question.ask(id)).await?;
    let mut buffer = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = buffer.get(..length).unwrap_or_default();
        if !question.is_answered_by(answer, id) {
            continue;
        }
        if message::is_cut(answer) || records::edns(answer).is_err() {
            drop(socket);
            return ask_over_tcp(server, question).await;
        }
        buffer.truncate(length);
        return Ok(buffer);
    }
}

async fn ask_over_tcp(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let id: u16 = rand::random();
    let message = question.ask(id);
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), message.as_slice()].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    if question.is_answered_by(&answer, id) && records::edns(&answer).is_ok() {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn name_servers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
            Some(SocketAddr::new(address.parse().ok()?, PORT))
        })
        .take(3)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use soulbox_model::network::Egress;

    use super::*;
    use crate::dns::answered;

    #[tokio::test]
    async fn names_that_nobody_answers_hold_up_no_other_sandbox() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let configured = vec![socket.local_addr().unwrap()];
        let resolver = Arc::new(Resolver { configured, places: Places::new(256) });
        let policy = Arc::new(Policy::new(Egress::of_internet(true), &[]));
        let (heard, mut asked) = tokio::sync::watch::channel(0);
        let _server = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                heard.send_modify(|count| *count += 1);
                let query = &buffer[..length];
                if Question::parse(query).unwrap().name.as_str() != "dead.example.com" {
                    socket.send_to(&answered(query, [1, 2, 3, 4].into()), from).await.unwrap();
                }
            }
        });
        let question = |name: &str| Question::new(&name.parse().unwrap(), A);
        let mut hostile = tokio::task::JoinSet::new();
        for turns in (0..24).map(|_| Arc::new(Turns::default())) {
            for _ in 0..32 {
                let (resolver, policy) = (Arc::clone(&resolver), Arc::clone(&policy));
                let (turns, dead) = (Arc::clone(&turns), question("dead.example.com"));
                hostile.spawn(async move { resolver.ask(&policy, &turns, &dead).await });
            }
        }
        asked.wait_for(|count| *count >= 256).await.unwrap();
        let own = Turns::default();
        for _ in 0..20 {
            let began = Instant::now();
            resolver.ask(&policy, &own, &question("www.example.com")).await.unwrap();
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        }
    }

    #[test]
    fn name_servers_are_read_as_the_c_library_does() {
        let text = "# x\nsearch a.b\nnameserver 10.0.0.1\nnameserver ::1 # c\nnameserver bad\n";
        let expected = ["10.0.0.1:53", "[::1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(name_servers(text), expected);
    }
}
