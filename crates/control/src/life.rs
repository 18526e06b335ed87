//! A sandbox from its request to its end.

mod create;
mod end;
mod network;
mod repeat;
mod timeouts;

pub(crate) use end::Cause;
pub use network::TrafficReader;
pub(crate) use network::ends;
pub use repeat::KEY_REUSED;
pub(crate) use repeat::Requests;
