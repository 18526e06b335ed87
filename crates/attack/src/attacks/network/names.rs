//! What leaves the host of what a sandbox asks for.

use std::{net::UdpSocket, time::Duration};

use serde_json::json;

use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::{Field, unique},
    host::Packets,
};

pub(super) fn tunnels(field: &Field<'_>) -> Outcome {
    let rules = json!({"allowOut": ["*.allowed.example"], "denyOut": ["0.0.0.0/0"]});
    let sandbox = field.fresh_with(json!({"network": rules}))?;
    let (secret, control) = (unique("exfil"), unique("control"));
    let needles = vec![secret.clone(), control.clone()];
    let packets = Packets::watch(needles)
        .map_err(|error| Fault::skipped(format!("packets cannot be watched: {error}")))?;
    // In two parts, since the request that starts the program passes an interface of the host too.
    let (first, second) = secret.split_at(9);
    let servers = ["8.8.8.8", "10.0.2.3", "2001:4860:4860::8888"];
    let mut arguments = vec![first, second];
    arguments.extend(servers);
    let program = include_str!("../../../programs/tunnel.py");
    let output = sandbox.python_within(program, &arguments, Who::Root, Duration::from_secs(120))?;
    // Whoever watches must have seen this.
    let nowhere = UdpSocket::bind("127.0.0.1:0")?;
    nowhere.send_to(control.as_bytes(), nowhere.local_addr()?)?;
    let seen = packets.seen()?;
    hold!(seen.get(1).is_some_and(|count| *count > 0), "the watch on packets sees nothing");
    hold!(seen.first() == Some(&0), "{:?} packets with the secret left", seen.first());
    let found: serde_json::Value = serde_json::from_str(output.said())
        .map_err(|error| Fault::failed(format!("{error}: {}", output.stderr)))?;
    hold!(found["wrong"] == json!([]), "answered: {}", found["wrong"]);
    hold!(found["silent"] == 0, "{} questions were not answered", found["silent"]);
    let resolver = found["resolver"].as_str().unwrap_or_default();
    hold!(!resolver.contains("search"), "the resolver's file names domains: {resolver}");
    Ok(format!("{} questions, no packet with the secret left the host", found["asked"]))
}
