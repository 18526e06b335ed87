//! Fuzz targets: one function for each parser of bytes that an attacker may have written.
//!
//! A target takes any bytes, makes of them what the parser takes, and panics where the parser breaks
//! a promise: a round trip that changes something, a request that two readers would route
//! differently, a count or size out of bounds. [`TARGETS`] names them all. Two drivers run them: the
//! tests of this crate, on every build, over the corpus and a bounded number of mutations
//! ([`driver`]); and libFuzzer, from the `fuzz/` directory, for as long as one likes.

pub mod driver;
pub mod input;
pub mod targets;

/// A function to feed bytes to.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its directory in the corpus.
    pub name: &'static str,
    /// # Panics
    /// Where the parser breaks a promise.
    pub run: fn(&[u8]),
    /// Longest input that mutations make, in bytes.
    pub max_len: usize,
}

const fn target(name: &'static str, max_len: usize, run: fn(&[u8])) -> Target {
    Target { name, run, max_len }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("gateway_route", 4096, targets::gateway::route),
    target("gateway_host", 512, targets::gateway::host),
    target("gateway_headers", 4096, targets::gateway::headers),
    target("users", 8192, targets::users::parse),
    target("files_multipart", 8192, targets::files::multipart),
    target("files_gunzip", 8192, targets::files::compressed),
    target("files_signature", 1024, targets::files::signature),
    target("files_range", 2048, targets::files::range),
    target("files_encoding", 512, targets::files::accept_encoding),
    target("rpc_connect", 8192, targets::rpc::connect),
    target("rpc_init", 4096, targets::rpc::init),
    target("messages", 8192, targets::messages::round_trip),
    target("client_envelopes", 8192, targets::messages::envelopes),
    target("log_lines", 16384, targets::messages::log_lines),
    target("boot", 8192, targets::boot::handshake),
    target("api_create", 8192, targets::api::create),
    target("api_bodies", 1024, targets::api::bodies),
    target("api_query", 2048, targets::api::query),
    target("api_names", 1024, targets::api::names),
    target("api_keys", 1024, targets::api::keys),
    target("egress_peek", 4096, targets::egress::peek),
    target("dns_question", 512, targets::egress::dns_question),
    target("dns_answer", 1024, targets::egress::dns_answer),
    target("request_rule", 512, targets::egress::request_rule),
    target("placeholders", 4096, targets::egress::placeholders),
    target("project_file", 8192, targets::project::file),
    target("project_override", 512, targets::project::overrides),
    target("archive", 16384, targets::archive::unpack),
];

/// The target of that name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}
