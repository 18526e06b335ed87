//! The gateway against real servers, over real sockets.

// Clippy allows these in `#[test]` functions, not in what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod errors;
mod exposed;
mod framing;
mod grpc;
mod http2;
mod inside;
mod lifecycle;
mod pooling;
mod private;
mod routing;
mod speed;
mod streaming;
mod support;
mod tls;
mod tunnels;
