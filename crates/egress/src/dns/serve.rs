//! Answering the questions of one sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Pins, Resolver, Turns,
    message::{self, A, AAAA, Code, Malformed, Question},
};
use crate::policy::{Policy, Reason};
use soulbox_model::network::Domain;

const SVCB: u16 = 64;
const HTTPS: u16 = 65;
/// What real programs ask for; the rest serves tunnels and amplifiers more than anybody else.
/// A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, NAPTR, CERT, DS, SSHFP, RRSIG, NSEC, DNSKEY, TLSA, CAA.
const KINDS: &[u16] =
    &[1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 37, 43, 44, 46, 47, 48, 52, SVCB, HTTPS, 257];
/// The name that a message asks for.
pub(crate) fn asked(query: &[u8]) -> Option<Domain> {
    Question::parse(query).ok().map(|question| question.name)
}

/// The answer to a message, if it deserves one, and what was refused.
pub(crate) async fn answer(
    resolver: &Resolver,
    policy: &Policy,
    pins: &Pins,
    turns: &Turns,
    query: &[u8],
) -> (Option<Vec<u8>>, Option<(Domain, Reason)>) {
    let question = match Question::parse(query) {
        Ok(question) => question,
        Err(Malformed::Noise) => return (None, None),
        Err(Malformed::Bad(code)) => return (message::error(query, code), None),
    };
    let id = [query[0], query[1]];
    let ours = |code| Some(question.reply(id, code, None));
    if question.name.as_str() == "localhost" {
        let address: Option<IpAddr> = match question.kind {
            A => Some(Ipv4Addr::LOCALHOST.into()),
            AAAA => Some(Ipv6Addr::LOCALHOST.into()),
            _ => None,
        };
        return (Some(question.reply(id, Code::Fine, address)), None);
    }
    // Before anything is noted: a flood is answered, and nothing more.
    if !turns.take() {
        return (ours(Code::Refused), None);
    }
    if let Err(reason) = policy.resolvable(&question.name) {
        return (ours(Code::NoSuchName), Some((question.name, reason)));
    }
    if !KINDS.contains(&question.kind) {
        return (ours(Code::Refused), None);
    }
    // These may carry keys that would hide the name a connection is for.
    if [SVCB, HTTPS].contains(&question.kind) {
        return (ours(Code::Fine), None);
    }
    match resolver.ask(policy, turns, &question).await {
        Ok(mut answer) => {
            pins.note(&question.name, &message::addresses(&answer));
            answer[..2].copy_from_slice(&id);
            (Some(answer), None)
        }
        Err(error) => {
            tracing::debug!(name = %question.name, %error, "a name could not be resolved");
            (ours(Code::ServerFailed), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use soulbox_model::network::Egress;
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server that gives every name the same address and counts what it is asked.
    async fn upstream() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (heard, asked) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = Question::parse(&buffer[..length]).unwrap();
                let reply = question.reply(
                    [buffer[0], buffer[1]],
                    Code::Fine,
                    Some([93, 184, 216, 34].into()),
                );
                heard.send(question.name.to_string()).unwrap();
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        (address, asked)
    }

    #[tokio::test]
    async fn only_allowed_names_leave_and_the_others_get_an_answer_all_the_same() {
        let (server, mut asked) = upstream().await;
        let resolver = Resolver::new(vec![server]);
        let egress =
            Egress { allow: vec!["*.example.com".parse().unwrap()], ..Egress::of_internet(false) };
        let policy = Policy::new(egress, &[]);
        let (pins, turns) = (Pins::default(), Turns::default());
        let ask = async |name: &str, kind| {
            let query = Question::new(&name.parse().unwrap(), kind).ask(77);
            answer(&resolver, &policy, &pins, &turns, &query).await
        };
        let (reply, refused) = ask("a.example.com", A).await;
        let reply = reply.unwrap();
        assert_eq!(refused, None);
        assert_eq!(reply[..2], 77_u16.to_be_bytes());
        let address = IpAddr::from([93, 184, 216, 34]);
        assert_eq!(message::addresses(&reply), [address]);
        assert_eq!(pins.name(address, |_| true).unwrap().as_str(), "a.example.com");

        let (reply, refused) = ask("c2VjcmV0.evil.com", A).await;
        assert_eq!(reply.unwrap()[3] & 15, Code::NoSuchName as u8);
        assert!(matches!(refused, Some((_, Reason::Name(_)))));
        let (reply, _) = ask("b.example.com", 10).await;
        assert_eq!(reply.unwrap()[3] & 15, Code::Refused as u8, "NULL");
        let (reply, _) = ask("b.example.com", HTTPS).await;
        assert!(message::addresses(&reply.unwrap()).is_empty());

        assert_eq!(asked.recv().await.unwrap(), "a.example.com");
        assert!(asked.try_recv().is_err(), "something else left the host");
    }
}
