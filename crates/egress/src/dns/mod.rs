//! Name service for sandboxes: questions are judged, asked anew by the host, and answered.

/// What fuzz targets call.
pub(crate) mod fuzzing {
    use soulbox_model::network::Domain;

    use super::{message::Question, records};

    pub(crate) fn question(message: &[u8]) -> Option<(Domain, Vec<u8>)> {
        let question = Question::parse(message).ok()?;
        let asked = question.ask(1);
        Some((question.name, asked))
    }

    pub(crate) fn addresses(message: &[u8]) -> usize {
        records::addresses(message).len()
    }
}

mod message;
mod pins;
mod records;
mod serve;
mod turns;
mod upstream;

/// An answer to a question that gives an address, for tests that stand in for a name server.
#[cfg(test)]
pub(crate) fn answered(question: &[u8], address: std::net::IpAddr) -> Vec<u8> {
    let id = [question[0], question[1]];
    let question = message::Question::parse(question).unwrap();
    let address = Some(address).filter(|_| question.kind == message::A);
    question.reply(id, message::Code::Fine, address)
}

pub(crate) use message::Over;
pub(crate) use pins::Pins;
pub(crate) use serve::{Outcome, answer};
pub(crate) use turns::Turns;
pub(crate) use upstream::Resolver;
