//! What a name may have meant that is none.

use crate::keys::{TABLES, names_in};

/// What people write who come from other tools, and where it belongs here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("image", "template.base_image"),
    ("base", "template.base_image"),
    ("from", "template.base_image"),
    ("python", "template.python_version"),
    ("node", "template.nodejs_version"),
    ("node_version", "template.nodejs_version"),
    ("args", "template.build_args"),
    ("cmd", "commands.start"),
    ("command", "commands.start"),
    ("run", "commands.start"),
    ("healthcheck", "commands.ready"),
    ("cpus", "resources.cpu"),
    ("cores", "resources.cpu"),
    ("mem", "resources.memory"),
    ("ram", "resources.memory"),
    ("storage", "resources.disk"),
    ("ttl", "resources.timeout"),
    ("env", "environment"),
    ("envs", "environment"),
    ("vars", "environment"),
    ("port", "network.ports"),
    ("internet", "network.allow_internet"),
    ("hosts", "network.domains"),
    ("allowlist", "network.allow_out"),
    ("allow_list", "network.allow_out"),
    ("egress", "network.allow_out"),
    ("denylist", "network.deny_out"),
    ("deny_list", "network.deny_out"),
    ("rates", "network.requests.per_minute"),
    ("rate_limit", "network.requests.per_minute"),
    ("docker", "security.allow_docker"),
    ("sudo", "security.allow_sudo"),
    ("readonly", "security.read_only"),
];

/// For the name `found` in `table`, or at the top: another name there, or `table.key` elsewhere.
pub(crate) fn name(found: &str, table: Option<&str>) -> Option<String> {
    if let Some(near) = nearest(found, &names_in(table)) {
        return Some(near.to_owned());
    }
    let folded = found.to_ascii_lowercase().replace('-', "_");
    if let Some(table) = TABLES.iter().find(|table| table.key(&folded).is_some()) {
        return Some(format!("{}.{folded}", table.name));
    }
    let (_, place) = ELSEWHERE.iter().find(|(name, _)| *name == folded)?;
    let key = table.and_then(|table| place.strip_prefix(&format!("{table}.")));
    let key = key.filter(|key| !key.contains('.'));
    Some(key.unwrap_or(place).to_owned())
}

/// The nearest of `names`, if it is near: one change in three letters, swaps being one.
pub(crate) fn nearest<'a>(found: &str, names: &[&'a str]) -> Option<&'a str> {
    if found.len() > 64 {
        return None;
    }
    let folded = found.to_ascii_lowercase().replace('-', "_");
    let distance = |name: &&str| strsim::damerau_levenshtein(&folded, name);
    let near = names.iter().min_by_key(|name| distance(name))?;
    (distance(near) <= (near.len() / 3).max(1)).then_some(*near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_not() {
        for (found, table, meant) in [
            ("memroy", Some("resources"), Some("memory")),
            ("Memory", Some("resources"), Some("memory")),
            ("allow-sudo", Some("security"), Some("allow_sudo")),
            ("port", Some("network"), Some("ports")),
            ("memory", Some("project"), Some("resources.memory")),
            ("image", Some("template"), Some("base_image")),
            ("ram", Some("resources"), Some("memory")),
            ("env", None, Some("environment")),
            ("resource", None, Some("resources")),
            ("colour", Some("project"), None),
            (&"x".repeat(1000), None, None),
        ] {
            assert_eq!(name(found, table).as_deref(), meant, "{found} in {table:?}");
        }
    }
}
