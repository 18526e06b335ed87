//! The targets, by what they try.

pub mod api;
pub mod archive;
pub mod boot;
pub mod egress;
pub mod files;
pub mod gateway;
pub mod messages;
pub mod project;
pub mod rpc;
pub mod users;
