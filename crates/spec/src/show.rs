//! A project as it holds, with every default and override in place. Secrets are names here, too.

use serde_json::{Map, Value, json};
use soulbox_model::network::{ByteLimit, Demands};

use crate::{
    Project,
    overrides::quote,
    value::{show_bytes, show_cores, show_duration},
};

/// As JSON: the keys of the file, and beside those with units the plain numbers.
pub fn json(project: &Project) -> Value {
    let limits = &project.resources;
    let mut template = json!({
        "name": project.template.name,
        "base_image": project.template.base_image.as_str(),
        "build_args": project.template.build_args,
    });
    let mut commands = json!({ "start": project.commands.start });
    let versions = [
        ("python_version", project.template.python_version),
        ("nodejs_version", project.template.nodejs_version),
    ];
    for (name, version) in versions {
        if let Some(version) = version {
            template[name] = version.to_string().into();
        }
    }
    for (name, list) in [("ready", &project.commands.ready), ("test", &project.commands.test)] {
        if let Some(list) = list {
            commands[name] = list.clone().into();
        }
    }
    let environment: Map<String, Value> = project
        .environment
        .iter()
        .map(|(name, text)| (name.clone(), text.to_string().into()))
        .collect();
    let mut identity = json!({
        "name": project.project.name,
        "version": project.project.version.to_string(),
    });
    if let Some(description) = &project.project.description {
        identity["description"] = description.clone().into();
    }
    json!({
        "project": identity,
        "template": template,
        "commands": commands,
        "resources": {
            "cpu": show_cores(limits.cpu_millis),
            "cpu_millis": limits.cpu_millis,
            "memory": show_bytes(limits.memory_bytes),
            "memory_bytes": limits.memory_bytes,
            "disk": show_bytes(limits.disk_bytes),
            "disk_bytes": limits.disk_bytes,
            "timeout": show_duration(limits.timeout),
            "timeout_seconds": limits.timeout.as_secs(),
        },
        "environment": environment,
        "network": {
            "ports": project.network.ports,
            "allow_internet": project.network.allow_internet,
            "domains": project.network.domains,
            "allow_out": project.network.allow_out,
            "deny_out": project.network.deny_out,
            "requests": requests(&project.network.requests),
        },
        "security": {
            "allow_docker": project.security.allow_docker,
            "allow_sudo": project.security.allow_sudo,
            "read_only": project.security.read_only,
        },
        "secrets": project.secrets(),
    })
}

fn requests(demands: &Demands) -> Value {
    let Demands { requests, rates, bytes, udp } = demands;
    let amounts = |shown: fn(u64) -> Value| -> Map<String, Value> {
        let limit = |limit: &ByteLimit| {
            let both = [("sent", limit.sent), ("received", limit.received)];
            let said = both.into_iter().filter_map(|(way, n)| Some((way.to_owned(), shown(n?))));
            (limit.destination.to_string(), said.collect::<Map<_, _>>().into())
        };
        bytes.iter().map(limit).collect()
    };
    let rates: Map<String, Value> =
        rates.iter().map(|rate| (rate.host.to_string(), rate.per_minute.into())).collect();
    json!({
        "allow": requests,
        "per_minute": rates,
        "bytes": amounts(|n| show_bytes(n).into()),
        "bytes_counts": amounts(Value::from),
        "udp": udp,
    })
}

/// As a project file that reads back to the same project.
pub fn toml(project: &Project) -> String {
    let shown = json(project);
    let mut text = String::new();
    for table in crate::keys::TABLES {
        let values = shown_of(&shown, table.name).as_object();
        let Some(values) = values.filter(|values| !values.is_empty()) else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("[{}]\n", table.name));
        let names: Vec<&str> = if table.is_open() {
            values.keys().map(String::as_str).collect()
        } else {
            table.keys.iter().map(|key| key.name).collect()
        };
        for name in names {
            match &values.get(name) {
                Some(Value::Object(inner)) if inner.is_empty() => {}
                Some(value) => text.push_str(&format!("{name} = {}\n", toml_value(value))),
                None => {}
            }
        }
    }
    text
}

/// What is shown of a table.
fn shown_of<'a>(shown: &'a Value, table: &str) -> &'a Value {
    table.split('.').fold(shown, |outer, name| &outer[name])
}

fn toml_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(toml_value).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(entries) => {
            let entries: Vec<_> = entries
                .iter()
                .map(|(key, value)| format!("{} = {}", toml_key(key), toml_value(value)))
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        plain => plain.to_string(),
    }
}

/// With quotes where it needs them.
fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if key.chars().all(bare) { key.to_owned() } else { quote(key) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::{FULL, SMALL};

    #[test]
    fn what_is_shown_is_the_same_project() {
        for text in [SMALL, FULL] {
            let project = Project::parse(text, "x").unwrap();
            let shown = toml(&project);
            assert_eq!(Project::parse(&shown, "x").as_ref(), Ok(&project), "{shown}");
        }
    }

    #[test]
    fn every_key_is_shown() {
        let project = Project::parse(FULL, "x").unwrap();
        let shown = json(&project);
        for table in crate::keys::TABLES {
            for key in table.keys {
                let value = &shown_of(&shown, table.name)[key.name];
                assert!(!value.is_null(), "{}.{}", table.name, key.name);
            }
        }
        assert_eq!(shown["secrets"], json!(["api_key", "db_pass"]));
        assert_eq!(shown["environment"]["PRICE"], "5$$");
        assert_eq!(shown["resources"]["memory_bytes"], 1u64 << 30);
    }
}
