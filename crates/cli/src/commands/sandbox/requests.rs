//! Which requests hosts get, how many bytes, and where datagrams go.

use std::collections::BTreeMap;

use soulbox_wire::rest::{ByteLimit, RequestRules};

use crate::{
    args::sandbox::Requests,
    client::Server,
    failure::Result,
    output::{Output, plain},
};

pub(super) async fn run(server: &Server, output: &Output, args: Requests) -> Result<()> {
    let (id, clear) = (args.id.clone(), args.clear);
    let rules = rules(args);
    if clear || rules != RequestRules::default() {
        server.put_requests(&id, &rules).await?;
    }
    show(output, &server.requests(&id).await?)
}

fn rules(args: Requests) -> RequestRules {
    let mut bytes = BTreeMap::<_, ByteLimit>::new();
    for (destination, count) in args.sent {
        bytes.entry(destination.to_string()).or_default().sent = Some(count);
    }
    for (destination, count) in args.received {
        bytes.entry(destination.to_string()).or_default().received = Some(count);
    }
    let rates = args.per_minute.iter().map(|rate| (rate.host.to_string(), rate.per_minute));
    RequestRules {
        allow: args.allow.iter().map(ToString::to_string).collect(),
        per_minute: rates.collect(),
        bytes,
        udp: args.udp.iter().map(ToString::to_string).collect(),
    }
}

fn show(output: &Output, rules: &RequestRules) -> Result<()> {
    if output.json {
        return output.value(rules);
    }
    let mut rows = Vec::new();
    let mut row = |kind: &str, rule: &str| rows.push(vec![kind.to_owned(), plain(rule)]);
    rules.allow.iter().for_each(|rule| row("allow", rule));
    for (host, count) in &rules.per_minute {
        row("per-minute", &format!("{host}={count}"));
    }
    for (destination, limit) in &rules.bytes {
        for (kind, count) in [("sent", limit.sent), ("received", limit.received)] {
            if let Some(count) = count {
                row(kind, &format!("{destination}={count}"));
            }
        }
    }
    rules.udp.iter().for_each(|rule| row("udp", rule));
    if rows.is_empty() {
        output.note("no rules: every host that it reaches gets any request, and no datagrams");
        return Ok(());
    }
    output.table(&["KIND", "RULE"], rows)
}
