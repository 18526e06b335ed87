//! What a sandbox may reach: `allow_out`, `deny_out` and `[network.requests]`.
//!
//! The server's own parsers read the values, so that nothing is right here that it refuses.

use std::{collections::HashSet, hash::Hash, str::FromStr};

use soulbox_model::network::{
    ByteLimit, Cidr, Demands, Destination, Egress, MAX_BYTE_LIMITS, MAX_UDP_RULES, Pattern,
    RequestRate, RequestRule,
};

use crate::{
    diagnostic::{Diagnostic, Kind},
    keys,
    read::Reader,
    suggest,
    tree::{Node, Value},
    validate::{MAX_ENTRIES, bounded, list, placed},
    value::{self, Parsed, Wrong},
};

const REQUESTS: &str = "network.requests";
const WAYS: [&str; 2] = ["sent", "received"];

/// The part of `[network]` that says what goes out.
#[derive(Debug)]
pub(crate) struct Rules {
    pub allow_internet: bool,
    pub allow_out: Vec<Destination>,
    pub deny_out: Vec<Cidr>,
    pub requests: Demands,
}

pub(crate) fn read(reader: &mut Reader<'_>) -> Rules {
    let before = reader.problems.len();
    let allow_internet = reader.flag("network", "allow_internet").unwrap_or(true);
    let allow = placed(reader, ("network", "allow_out"), MAX_ENTRIES, |reader, node| {
        reader.text(node, "network.allow_out", "a string", destination)
    });
    let deny = placed(reader, ("network", "deny_out"), MAX_ENTRIES, |reader, node| {
        reader.text(node, "network.deny_out", "a string", range)
    });
    let requests = placed(reader, (REQUESTS, "allow"), MAX_ENTRIES, |reader, node| {
        reader.text(node, "network.requests.allow", "a string", request)
    });
    let rates = table(reader, "per_minute", MAX_ENTRIES, rate);
    let bytes = table(reader, "bytes", MAX_BYTE_LIMITS, amounts);
    let udp = list(reader, (REQUESTS, "udp"), MAX_UDP_RULES, |reader, node| {
        reader.text(node, "network.requests.udp", "a string", |text| {
            parsed(text, "a destination and a port as `192.0.2.1:123`", None)
        })
    });
    // What could not be read may be what the rest needs.
    if reader.problems.len() == before {
        conflicts(reader, allow_internet, &allow, &deny, &requests);
    }
    Rules {
        allow_internet,
        allow_out: values(allow),
        deny_out: values(deny),
        requests: Demands { requests: values(requests), rates, bytes, udp },
    }
}

fn values<T>(placed: Vec<(T, &Node)>) -> Vec<T> {
    placed.into_iter().map(|(value, _)| value).collect()
}

fn parsed<T: FromStr<Err = String>>(
    text: &str,
    expected: &'static str,
    near: Option<String>,
) -> Parsed<T> {
    text.parse().map_err(|why| {
        let wrong = Wrong::new(format!("has a wrong entry: {why}"), expected);
        match near.filter(|near| near != text && near.parse::<T>().is_ok()) {
            Some(near) => wrong.instead(near),
            None => wrong,
        }
    })
}

fn destination(text: &str) -> Parsed<Destination> {
    let near = Some(value::bare_host(text)).filter(|bare| bare.parse::<Pattern>().is_ok());
    parsed(
        text,
        "an address, a range, a name or `*.domain`, without scheme, port and path",
        near.map(str::to_owned),
    )
}

fn range(text: &str) -> Parsed<Cidr> {
    let near = (text.trim() == "*").then(|| "0.0.0.0/0".to_owned());
    parsed(text, "addresses and ranges; names are denied where `allow_out` lacks them", near)
}

fn request(text: &str) -> Parsed<RequestRule> {
    let (methods, target) = text.trim().rsplit_once(' ').unwrap_or(("GET", text.trim()));
    let target = target.split_once("://").map_or(target, |(_, target)| target);
    parsed(text, "`METHOD host/path`", Some(format!("{} {target}", methods.trim())))
}

fn rate(reader: &mut Reader<'_>, host: Option<Pattern>, node: &Node) -> Option<RequestRate> {
    const FIELD: &str = "network.requests.per_minute";
    let Value::Number(text) = &node.value else {
        let instead = match &node.value {
            Value::String { text, .. } => text.trim().parse::<u32>().ok().map(|n| n.to_string()),
            _ => None,
        };
        reader.wrong_type(node, FIELD, "a number of requests as 600", instead);
        return None;
    };
    // None at all is out of range as well.
    match RequestRate::new(Pattern::Any, text.parse().unwrap_or(0)) {
        Ok(rate) => Some(RequestRate { host: host?, ..rate }),
        Err(why) => {
            let wrong = Wrong::new(format!("is out of range: {why}"), "a number of requests");
            reader.wrong_value(node, FIELD, wrong);
            None
        }
    }
}

fn amounts(
    reader: &mut Reader<'_>,
    destination: Option<Destination>,
    node: &Node,
) -> Option<ByteLimit> {
    const FIELD: &str = "network.requests.bytes";
    const EXPECTED: &str = "`sent`, `received` or both, as { sent = \"1MB\" }";
    let before = reader.problems.len();
    if !matches!(node.value, Value::Table(_)) {
        let instead = match &node.value {
            Value::String { text, .. } if value::bytes(text).is_ok() => {
                Some(format!("{{ sent = \"{text}\" }}"))
            }
            _ => None,
        };
        reader.wrong_type(node, FIELD, EXPECTED, instead);
        return None;
    }
    for entry in node.entries().iter().filter(|entry| !WAYS.contains(&&*entry.key)) {
        let shown: String = entry.key.chars().take(64).collect();
        reader.note(
            Diagnostic::new(
                Kind::UnknownKey,
                entry.place.clone(),
                format!("`{shown}` is no key of an entry of `{FIELD}`"),
            )
            .field(FIELD)
            .expected(EXPECTED)
            .suggestion(suggest::nearest(&entry.key, &WAYS).map(str::to_owned)),
        );
    }
    let [sent, received] = WAYS.map(|way| {
        let node = &node.get(way)?.node;
        // The API has bytes without a unit.
        reader.text(node, FIELD, keys::Form::Bytes.words(), |text| {
            let plain = text.bytes().all(|b| b.is_ascii_digit());
            value::bytes(text)
                .map_err(|wrong| if plain { wrong.instead(format!("{text}B")) } else { wrong })
        })
    });
    let destination = destination.filter(|_| reader.problems.len() == before)?;
    let limit = ByteLimit::new(destination, sent, received);
    limit
        .map_err(|why| {
            let wrong = Wrong::new(format!("has a wrong entry: {why}"), EXPECTED);
            reader.wrong_value(node, FIELD, wrong);
        })
        .ok()
}

/// A table of `[network.requests]` whose keys differ.
fn table<K, T>(
    reader: &mut Reader<'_>,
    key: &str,
    most: usize,
    value: impl Fn(&mut Reader<'_>, Option<K>, &Node) -> Option<T>,
) -> Vec<T>
where
    K: FromStr<Err = String> + Clone + Eq + Hash,
{
    let Some(entry) = reader.entry(REQUESTS, key) else { return Vec::new() };
    let field = format!("{REQUESTS}.{key}");
    if !matches!(entry.node.value, Value::Table(_)) {
        let form = keys::table(REQUESTS).and_then(|table| table.key(key)).map(|key| key.form);
        let expected = form.map_or("a table", keys::Form::words);
        reader.wrong_type(&entry.node, &field, expected, None);
    }
    let entries = entry.node.entries();
    bounded(reader, &field, entries, most, |entry| &entry.place);
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for entry in entries.iter().take(most) {
        let key = entry.key.parse::<K>().and_then(|key| match seen.insert(key.clone()) {
            true => Ok(key),
            false => Err(format!("`{}` is there twice", entry.key)),
        });
        if let Err(why) = &key {
            let message = format!("`{field}` has a wrong entry: {why}");
            reader.note(
                Diagnostic::new(Kind::WrongValue, entry.place.clone(), message)
                    .field(&field)
                    .expected("each host or destination once, in quotes"),
            );
        }
        all.extend(value(reader, key.ok(), &entry.node));
    }
    all
}

/// Notes entries that do not say what they seem to: what is allowed beats what is denied, and the rest may be reached
/// unless it is denied.
fn conflicts(
    reader: &mut Reader<'_>,
    internet: bool,
    allow: &[(Destination, &Node)],
    deny: &[(Cidr, &Node)],
    requests: &[(RequestRule, &Node)],
) {
    let mut conflict = |node: &Node, field: &str, message: String, expected: &str| {
        let message = format!("`{field}` {message}");
        let problem = Diagnostic::new(Kind::Conflict, node.place.clone(), message);
        reader.note(problem.field(field).expected(expected));
    };
    let denied = deny.iter().map(|(range, _)| *range).collect();
    let closed = Egress { deny: denied, ..Egress::of_internet(internet) }.denies_all();
    let nets = || {
        allow.iter().filter_map(|(entry, _)| match entry {
            Destination::Net(net) => Some(net),
            Destination::Name(_) => None,
        })
    };

    for (entry, node) in allow {
        let (message, expected) = match entry {
            Destination::Name(_) if !closed => (
                format!("has `{entry}`, a name, and not all the rest is denied"),
                "`allow_internet = false` beside names",
            ),
            Destination::Net(net) if net.is_everything() => (
                format!("has `{entry}`, with which nothing is denied"),
                "single destinations, or none and `allow_internet = true`",
            ),
            Destination::Net(net) if !closed && !deny.iter().any(|(d, _)| d.overlaps(net)) => (
                format!("has `{entry}`, which nothing denies"),
                "`allow_internet = false`, or a range in `deny_out` that it is an exception from",
            ),
            _ => continue,
        };
        conflict(node, "network.allow_out", message, expected);
    }
    for (range, node) in deny {
        if let Some(net) = nets().find(|net| net.holds(range)) {
            conflict(
                node,
                "network.deny_out",
                format!("has `{range}`, which `{net}` of `allow_out` lets through"),
                "ranges that `allow_out` does not hold: what it has beats `deny_out`",
            );
        }
    }
    for (rule, node) in requests {
        let named = |entry: &Destination| matches!(entry, Destination::Name(pattern) if pattern.overlaps(rule.host()));
        if closed && nets().next().is_none() && !allow.iter().any(|(entry, _)| named(entry)) {
            conflict(
                node,
                "network.requests.allow",
                format!("has `{rule}`, whose host is denied"),
                "hosts that `allow_out` has, too",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Override, Project, fuzzing::SMALL};

    fn network(sets: &[&str]) -> Option<crate::Network> {
        let sets: Vec<_> = sets.iter().map(|set| Override::set(set).unwrap()).collect();
        Project::parse_with(SMALL, "x", &sets).ok().map(|project| project.network)
    }

    #[test]
    fn what_is_right_here_is_right_for_the_server() {
        for (sets, right) in [
            (&["network.allow_internet=false", "network.allow_out=a.example"][..], true),
            (&["network.deny_out=0.0.0.0/0", "network.allow_out=a.example,*"], true),
            (&["network.deny_out=10.0.0.0/8", "network.allow_out=10.1.0.0/16"], true),
            (&["network.allow_internet=false", "network.deny_out=10.0.0.0/8"], true),
            (&["network.allow_internet=false", "network.requests.udp=*:9"], true),
            (&["network.allow_out=a.example"], false),
            (&["network.deny_out=10.1.0.0/16", "network.allow_out=10.0.0.0/8"], false),
            (&["network.deny_out=10.1.0.0/16", "network.allow_out=10.2.0.0/16"], false),
            (&["network.allow_internet=false", "network.requests.allow=GET a.example"], false),
        ] {
            let network = network(sets);
            assert_eq!(network.is_some(), right, "{sets:?}");
            assert!(network.is_none_or(|network| network.egress().check().is_ok()), "{sets:?}");
        }
    }

    #[test]
    fn rules_for_names_are_open_beside_where_addresses_may_be_called() {
        let rule = "network.requests.allow=GET a.example";
        let closed = ["network.allow_internet=false", "network.allow_out=a.example", rule];
        assert!(network(&[rule]).is_some_and(|network| network.is_open_beside_rules()));
        assert!(network(&closed).is_some_and(|network| !network.is_open_beside_rules()));
        let addresses = "network.allow_out=a.example, 192.0.2.0/24";
        let by_address = ["network.allow_internet=false", addresses, rule];
        assert!(network(&by_address).is_some_and(|network| network.is_open_beside_rules()));
        assert!(network(&[]).is_some_and(|network| !network.is_open_beside_rules()));
    }
}
