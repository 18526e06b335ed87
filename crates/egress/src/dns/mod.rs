//! Name service for sandboxes: questions are judged, asked anew by the host, and answered.

mod message;
mod pins;
mod serve;
mod upstream;

pub(crate) use pins::Pins;
pub(crate) use serve::{Turns, answer};
pub(crate) use upstream::Resolver;
