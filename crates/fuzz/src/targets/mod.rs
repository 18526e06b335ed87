//! The targets, by the crate that they try.

pub mod gateway;
