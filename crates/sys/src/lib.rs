//! The kernel boundary: the only crate with unsafe code.
