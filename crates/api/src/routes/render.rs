//! From the types of `control` to the bodies that clients read.

use soulbox_control::{Level, LogLine, Sample, Sandbox};
use soulbox_model::resources::MIB;
use soulbox_wire::rest;

use super::network;

pub fn sandbox(sandbox: Sandbox) -> rest::Sandbox {
    rest::Sandbox {
        template_id: sandbox.template_id.into(),
        sandbox_id: sandbox.id.into(),
        client_id: rest::CLIENT_ID.to_owned(),
        envd_version: sandbox.envd_version,
        alias: sandbox.alias,
        envd_access_token: sandbox.access_token,
        traffic_access_token: None,
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
        network: sandbox.network.as_ref().map(network::render),
        domain: sandbox.domain,
        metadata: sandbox.metadata,
        lifecycle: Some(rest::Lifecycle { on_timeout, auto_resume: false }),
        volume_mounts: Vec::new(),
    }
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
    let mut object: serde_json::Map<String, serde_json::Value> =
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
