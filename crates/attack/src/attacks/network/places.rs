//! Addresses that no sandbox may reach.

use std::{
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use crate::{
    attack::{Outcome, Who, hold},
    field::Field,
    host,
};

/// Where what a sandbox sends out is taken, in its own network.
const STEERED: u16 = 15001;

pub(super) fn metadata(field: &Field<'_>, who: Who) -> Outcome {
    let targets = [
        "169.254.169.254|80",
        "2852039166|80",
        "0xa9fea9fe|80",
        "0251.0376.0251.0376|80",
        "169.254.43518|80",
        "0xa9.254.0251.254|80",
        "::ffff:169.254.169.254|80",
        "fd00:ec2::254|80",
        "100.100.100.200|80",
        "168.63.129.16|80",
        "168.63.129.16|32526",
        "192.0.0.192|80",
        "169.254.170.2|80",
        "169.254.169.253|53",
        "metadata.google.internal|80",
        "metadata|80",
        "instance-data|80",
        "64:ff9b::a9fe:a9fe|80",
    ];
    let found = field.shared()?.finds(include_str!("../../../programs/reach.py"), &targets, who)?;
    hold!(found["answered"] == serde_json::json!([]), "answered: {}", found["answered"]);
    let tried = found["tried"].as_u64().unwrap_or(0);
    hold!(tried >= targets.len() as u64, "only {tried} addresses were tried");
    Ok(format!("{tried} addresses, no answer"))
}

/// The IPv4 addresses of this machine.
fn addresses() -> Vec<String> {
    let trie = host::text("/proc/net/fib_trie");
    let mut found = Vec::new();
    let mut last = "";
    for line in trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim();
        } else if line.contains("host LOCAL") && !found.iter().any(|known| known == last) {
            found.push(last.to_owned());
        }
    }
    found
}

pub(super) fn host_addresses(field: &Field<'_>, who: Who) -> Outcome {
    // Whoever gets through to this machine is seen here, whatever it answers.
    let canary = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"))?;
    canary.set_nonblocking(true)?;
    let port = canary.local_addr()?.port();
    let datagrams = UdpSocket::bind(("0.0.0.0", port)).ok();
    let own = addresses();
    let others = [
        "127.0.0.1",
        "127.0.0.53",
        "0.0.0.0",
        "::1",
        "::",
        "localhost",
        "host.docker.internal",
        "10.0.0.1",
        "172.17.0.1",
        "192.168.0.1",
        "192.168.1.1",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "10.0.2.15",
        "fd00:2::15",
    ];
    let all: Vec<String> =
        own.iter().map(String::as_str).chain(others).map(str::to_owned).collect();
    let api = field.ground.address.port();
    let targets: Vec<String> = all
        .iter()
        .flat_map(|host| [port, api, 22, STEERED].map(|port| format!("{host}|{port}")))
        .collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let program = include_str!("../../../programs/reach.py");
    let output = field.shared()?.python_within(program, &targets, who, Duration::from_secs(60))?;
    let found: serde_json::Value = serde_json::from_str(output.said())?;
    hold!(found["answered"] == serde_json::json!([]), "answered: {}", found["answered"]);
    hold!(canary.accept().is_err(), "a connection from the sandbox arrived on the host");
    if let Some(datagrams) = datagrams {
        datagrams.set_nonblocking(true)?;
        hold!(
            datagrams.recv(&mut [0; 64]).is_err(),
            "a datagram from the sandbox arrived on the host"
        );
    }
    let tried = found["tried"].as_u64().unwrap_or(0);
    Ok(format!("{tried} addresses, {} of them this machine's; nothing arrived", own.len()))
}
