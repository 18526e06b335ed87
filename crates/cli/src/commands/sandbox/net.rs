//! What a sandbox sent out.

use soulbox_wire::rest::{NetworkDecision, NetworkEvent};

use crate::{
    args::sandbox::Net,
    client::Server,
    failure::Result,
    output::{Output, Tone, bytes, plain},
};

pub(super) async fn run(server: &Server, output: &Output, args: Net) -> Result<()> {
    let mut all = Vec::new();
    server
        .network_events(&args.id, args.follow, |event| match (output.json, args.follow) {
            (true, true) => output.record(&event),
            (true, false) => {
                all.push(event);
                Ok(())
            }
            (false, _) => output.line(line_of(output, &event)),
        })
        .await?;
    if output.json && !args.follow { output.value(&all) } else { Ok(()) }
}

fn line_of(output: &Output, event: &NetworkEvent) -> String {
    let (word, tone) = match event.decision {
        NetworkDecision::Allowed => ("ALLOW", Tone::Good),
        NetworkDecision::Denied => ("DENY ", Tone::Bad),
        NetworkDecision::Failed => ("FAIL ", Tone::Warning),
        NetworkDecision::Ended => ("END  ", Tone::Quiet),
        NetworkDecision::Lost => {
            let lost = event.lost.unwrap_or_default();
            return output.tint(Tone::Warning, format!("{lost} events were forgotten unread"));
        }
    };
    let time = event.time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string());
    let mut line = format!(
        "{} {} {:4} {}",
        output.tint(Tone::Quiet, time.unwrap_or_default()),
        output.tint(tone, word),
        plain(event.protocol.as_deref().unwrap_or_default()),
        plain(&place(event)),
    );
    if let (Some(sent), Some(received)) = (event.sent_bytes, event.received_bytes) {
        let seconds = event.duration_ms.unwrap_or_default() as f64 / 1000.0;
        line += &format!(" sent {} received {} in {seconds:.1} s", bytes(sent), bytes(received));
    }
    let rule = event.rule.as_deref().unwrap_or_default();
    line += &output.tint(Tone::Quiet, format!(" [{}]", plain(rule)));
    if let Some(reason) = &event.reason {
        line += &format!(" {}", plain(reason));
    }
    line
}

/// `name:port (address)`, as much of it as there is.
fn place(event: &NetworkEvent) -> String {
    let port = event.port.map(|port| format!(":{port}")).unwrap_or_default();
    match (&event.name, &event.address) {
        (Some(name), Some(address)) => format!("{name}{port} ({address})"),
        (Some(name), None) => format!("{name}{port}"),
        (None, Some(address)) if address.contains(':') => format!("[{address}]{port}"),
        (None, address) => format!("{}{port}", address.as_deref().unwrap_or_default()),
    }
}
