//! All attacks, by what they aim at. The order is the order of a run.

mod agent;
mod escape;
mod files;
mod identity;
mod kernel;
mod later;
mod network;
mod resources;
mod reuse;
mod surroundings;

use serde_json::Value;

use crate::attack::Attack;

/// Every attack, in the order of a run.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    let groups = [
        kernel::ATTACKS,
        escape::ATTACKS,
        surroundings::ATTACKS,
        files::ATTACKS,
        agent::ATTACKS,
        identity::ATTACKS,
        reuse::ATTACKS,
        network::ATTACKS,
        resources::ATTACKS,
        later::ATTACKS,
    ];
    groups.into_iter().flatten()
}

/// The names among `found` that are not among `allowed`.
fn strangers<'a>(found: &'a Value, allowed: &[&str]) -> Vec<&'a str> {
    let every: Box<dyn Iterator<Item = &Value>> = match found {
        Value::Array(values) => Box::new(values.iter()),
        Value::Object(map) => Box::new(map.values()),
        other => Box::new(std::iter::once(other)),
    };
    every.filter_map(Value::as_str).filter(|name| !allowed.contains(name)).collect()
}
