//! From the types of `control` to the bodies that clients read.

use std::collections::BTreeMap;

use serde_json::Map;
use soulbox_control::{Level, LogLine, Sample, Sandbox};
use soulbox_model::{
    network::{Asked, Egress, Network, Transform},
    resources::MIB,
};
use soulbox_wire::rest;

pub fn sandbox(sandbox: Sandbox) -> rest::Sandbox {
    rest::Sandbox {
        template_id: sandbox.template_id.into(),
        sandbox_id: sandbox.id.into(),
        client_id: rest::CLIENT_ID.to_owned(),
        envd_version: sandbox.envd_version,
        alias: sandbox.alias,
        envd_access_token: sandbox.access_token,
        traffic_access_token: sandbox.traffic_token,
        domain: sandbox.domain,
    }
}

pub fn listed(sandbox: Sandbox) -> rest::ListedSandbox {
    rest::ListedSandbox {
        template_id: sandbox.template_id.into(),
        sandbox_id: sandbox.id.into(),
        client_id: rest::CLIENT_ID.to_owned(),
        started_at: sandbox.started_at,
        end_at: sandbox.end_at,
        cpu_count: sandbox.resources.cpu_count(),
        memory_mb: sandbox.resources.memory_mib(),
        disk_size_mb: sandbox.resources.disk_mib(),
        state: rest::SandboxState::Running,
        envd_version: sandbox.envd_version,
        alias: sandbox.alias,
        metadata: sandbox.metadata,
        volume_mounts: Vec::new(),
    }
}

pub fn detail(sandbox: Sandbox) -> rest::SandboxDetail {
    let exposed = sandbox.network.as_ref().and_then(|network| network.ingress.exposed.as_ref());
    let soulbox = exposed
        .map(|ports| rest::Exposure { ports: ports.iter().map(|port| port.get()).collect() });
    let on_timeout =
        if sandbox.auto_pause { rest::OnTimeout::Pause } else { rest::OnTimeout::Kill };
    rest::SandboxDetail {
        template_id: sandbox.template_id.into(),
        sandbox_id: sandbox.id.into(),
        client_id: rest::CLIENT_ID.to_owned(),
        started_at: sandbox.started_at,
        end_at: sandbox.end_at,
        cpu_count: sandbox.resources.cpu_count(),
        memory_mb: sandbox.resources.memory_mib(),
        disk_size_mb: sandbox.resources.disk_mib(),
        state: rest::SandboxState::Running,
        envd_version: sandbox.envd_version,
        alias: sandbox.alias,
        envd_access_token: sandbox.access_token,
        allow_internet_access: sandbox.allow_internet,
        network: sandbox.network.as_ref().map(network),
        domain: sandbox.domain,
        metadata: sandbox.metadata,
        lifecycle: Some(rest::Lifecycle { on_timeout, auto_resume: false }),
        volume_mounts: Vec::new(),
        soulbox,
    }
}

/// As who put it reads it, without passwords.
pub fn network(network: &Network) -> rest::Network {
    let Network { egress, ingress } = network;
    let texts = |list: Vec<String>| (!list.is_empty()).then_some(list);
    // What an older server wrote does not hold it.
    let asked = egress.asked.clone().unwrap_or_else(|| as_understood(egress));
    let rules: BTreeMap<_, _> = asked
        .rules
        .into_iter()
        .map(|(domain, rules)| (domain, rules.into_iter().map(rule).collect()))
        .collect();
    rest::Network {
        allow_out: texts(asked.allow),
        deny_out: texts(asked.deny),
        rules: (!rules.is_empty()).then_some(rules),
        egress_proxy: egress.proxy.as_ref().map(|proxy| rest::EgressProxy {
            address: proxy.address.to_string(),
            username: proxy.username().map(ToOwned::to_owned),
            password: None,
            tls: proxy.tls.as_ref().map(|tls| rest::EgressProxyTls {
                enabled: true,
                server_name: tls.server_name.as_ref().map(ToString::to_string),
                ca_cert: None,
                unknown: Map::new(),
            }),
            unknown: Map::new(),
        }),
        dns_servers: egress
            .dns_servers
            .as_ref()
            .map(|servers| servers.iter().map(ToString::to_string).collect()),
        allow_public_traffic: Some(ingress.public),
        mask_request_host: ingress.mask_request_host.as_ref().map(ToString::to_string),
        https_ports: (!ingress.https_ports.is_empty())
            .then(|| ingress.https_ports.iter().map(|port| u32::from(port.get())).collect()),
        unknown: Map::new(),
    }
}

fn as_understood(egress: &Egress) -> Asked {
    let headers = |transform: &Transform| {
        let pairs = transform.headers().iter();
        pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
    };
    let rules = egress.transforms.iter();
    Asked {
        allow: egress.allow.iter().map(ToString::to_string).collect(),
        deny: egress.deny.iter().map(ToString::to_string).collect(),
        rules: rules.map(|(domain, t)| (domain.to_string(), vec![Some(headers(t))])).collect(),
    }
}

fn rule(headers: Option<BTreeMap<String, String>>) -> rest::NetworkRule {
    let transform = headers
        .map(|headers| rest::NetworkTransform { headers: Some(headers), unknown: Map::new() });
    rest::NetworkRule { transform, unknown: Map::new() }
}

pub fn metric(sample: &Sample) -> rest::Metric {
    rest::Metric {
        timestamp: sample.timestamp,
        timestamp_unix: sample.timestamp.timestamp(),
        cpu_count: sample.cpu_count,
        cpu_used_pct: hundredths(sample.cpu_used_pct),
        mem_used: sample.mem_used,
        mem_total: sample.mem_total,
        mem_cache: sample.mem_cache,
        disk_used: sample.disk_used,
        disk_total: sample.disk_total,
        mem_used_mib: sample.mem_used / MIB,
        mem_total_mib: sample.mem_total / MIB,
    }
}

/// Two decimals: what follows them is noise of the conversion.
fn hundredths(percent: f32) -> f64 {
    (f64::from(percent) * 100.0).round() / 100.0
}

pub fn log_entry(line: LogLine) -> rest::LogEntry {
    rest::LogEntry {
        timestamp: line.timestamp,
        level: level(line.level),
        message: line.message,
        fields: line.fields,
    }
}

/// Clients parse `line` and print its keys; `level` and `message` must be strings in it.
pub fn log_line(line: &LogLine) -> rest::SandboxLog {
    let mut object: Map<String, serde_json::Value> =
        line.fields.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    object.insert("level".into(), line.level.as_str().into());
    object.insert("message".into(), line.message.clone().into());
    rest::SandboxLog {
        timestamp: line.timestamp,
        line: serde_json::Value::Object(object).to_string(),
    }
}

fn level(level: Level) -> rest::LogLevel {
    match level {
        Level::Debug => rest::LogLevel::Debug,
        Level::Info => rest::LogLevel::Info,
        Level::Warn => rest::LogLevel::Warn,
        Level::Error => rest::LogLevel::Error,
    }
}
