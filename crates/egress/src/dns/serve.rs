//! Answering the questions of one sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use soulbox_model::network::Domain;

use super::{
    Pins, Resolver, Turns,
    message::{self, A, AAAA, Code, Malformed, Over, Question},
    records,
};
use crate::policy::{Policy, Reason};

const SVCB: u16 = 64;
const HTTPS: u16 = 65;
/// What real programs ask for; the rest serves tunnels and amplifiers more than anybody else.
/// A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, NAPTR, CERT, DS, SSHFP, RRSIG, NSEC, DNSKEY, TLSA, CAA.
const KINDS: &[u16] = &[1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 37, 43, 44, 46, 47, 48, 52, 257];

/// What became of a question that was judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was asked outside, and these addresses were among the answers.
    Answered(Vec<IpAddr>),
    /// It was refused.
    Denied(Reason),
    /// It was answered as if there was nothing, which stops no program.
    Withheld(Reason),
    /// It was let out, and no name server said how it is.
    Failed(String),
}

/// The answer to a message, if it deserves one, and what became of its question. There is nothing to
/// tell of what never leaves a machine, or is no question, or is one too many.
pub(crate) async fn answer(
    resolver: &Resolver,
    policy: &Policy,
    pins: &Pins,
    turns: &Turns,
    query: &[u8],
    over: Over,
) -> (Option<Vec<u8>>, Option<(Domain, Outcome)>) {
    let question = match Question::parse(query) {
        Ok(question) => question,
        Err(Malformed::Noise) => return (None, None),
        Err(Malformed::Bad(code)) => return (message::error(query, code), None),
    };
    let id = [query[0], query[1]];
    let ours = |code| question.reply(id, code, None);
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
        return (Some(ours(Code::Refused)), None);
    }
    let (answer, outcome) = match judge(policy, &question) {
        Err((code, outcome)) => (ours(code), outcome),
        Ok(()) => match resolver.ask(policy, turns, &question).await {
            Ok(answer) => {
                let addresses = records::addresses(&answer);
                pins.note(&question.name, &addresses);
                let outcome = match message::failure(&answer) {
                    None => Outcome::Answered(addresses),
                    Some(failure) => Outcome::Failed(format!("the name server says {failure}")),
                };
                (question.pass_on(answer, id, over), outcome)
            }
            Err(error) => {
                let why = format!("no name server answered: {error}");
                (ours(Code::ServerFailed), Outcome::Failed(why))
            }
        },
    };
    (Some(answer), Some((question.name, outcome)))
}

/// Whether a question may leave.
///
/// # Errors
/// What is said inside instead, and why.
fn judge(policy: &Policy, question: &Question) -> Result<(), (Code, Outcome)> {
    let kind = question.kind;
    if let Err(reason) = policy.resolvable(&question.name) {
        return Err((Code::NoSuchName, Outcome::Denied(reason)));
    }
    // These may carry keys that would hide the name a connection is for.
    if [SVCB, HTTPS].contains(&kind) {
        return Err((Code::Fine, Outcome::Withheld(Reason::Records(kind))));
    }
    if !KINDS.contains(&kind) {
        return Err((Code::Refused, Outcome::Denied(Reason::Records(kind))));
    }
    Ok(())
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
            answer(&resolver, &policy, &pins, &turns, &query, Over::Udp).await
        };
        let (reply, outcome) = ask("a.example.com", A).await;
        let reply = reply.unwrap();
        assert_eq!(reply[..2], 77_u16.to_be_bytes());
        let address = IpAddr::from([93, 184, 216, 34]);
        assert_eq!(records::addresses(&reply), [address]);
        assert_eq!(outcome.unwrap().1, Outcome::Answered(vec![address]));
        assert_eq!(pins.name(address, |_| true).unwrap().as_str(), "a.example.com");

        let (reply, outcome) = ask("c2VjcmV0.evil.com", A).await;
        assert_eq!(reply.unwrap()[3] & 15, Code::NoSuchName as u8);
        assert!(matches!(outcome, Some((_, Outcome::Denied(Reason::Name(_))))));
        let (reply, outcome) = ask("b.example.com", 10).await;
        assert_eq!(reply.unwrap()[3] & 15, Code::Refused as u8, "NULL");
        assert_eq!(outcome.unwrap().1, Outcome::Denied(Reason::Records(10)));
        let (reply, outcome) = ask("b.example.com", HTTPS).await;
        assert!(records::addresses(&reply.unwrap()).is_empty());
        assert_eq!(outcome.unwrap().1, Outcome::Withheld(Reason::Records(HTTPS)));
        assert_eq!(ask("localhost", A).await.1, None);
        while turns.take() {}
        let (reply, outcome) = ask("a.example.com", A).await;
        assert_eq!((reply.unwrap()[3] & 15, outcome), (Code::Refused as u8, None), "one too many");

        assert_eq!(asked.recv().await.unwrap(), "a.example.com");
        assert!(asked.try_recv().is_err(), "something else left the host");
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_told_is_no_answer() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = Resolver::new(vec![socket.local_addr().unwrap()]);
        let policy = Policy::new(Egress::of_internet(true), &[]);
        let (pins, turns) = (Pins::default(), Turns::default());
        let query = Question::new(&"a.example.com".parse().unwrap(), A).ask(77);
        let asking = answer(&resolver, &policy, &pins, &turns, &query, Over::Udp);
        let failing = async {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Question::parse(&buffer[..length]).unwrap();
            let reply = question.reply([buffer[0], buffer[1]], Code::ServerFailed, None);
            socket.send_to(&reply, from).await.unwrap();
            drop(socket);
        };
        let ((_, outcome), ()) = tokio::join!(asking, failing);
        let said = "the name server says SERVFAIL".to_owned();
        assert_eq!(outcome.unwrap().1, Outcome::Failed(said));
        let (reply, outcome) = answer(&resolver, &policy, &pins, &turns, &query, Over::Udp).await;
        assert_eq!(reply.unwrap()[3] & 15, Code::ServerFailed as u8);
        let Some((_, Outcome::Failed(why))) = outcome else { panic!("{outcome:?}") };
        assert!(why.starts_with("no name server answered: "), "{why}");
    }
}
