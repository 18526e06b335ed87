//! What goes out of a sandbox, event by event.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use futures::{Stream, stream};
use http::header;
use soulbox_control::{Decision, Event, Part, TrafficReader};
use soulbox_wire::rest::{NetworkDecision, NetworkEvent};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App,
    auth::TokenHolder,
    path::SandboxPath,
    problem::{Problem, Result},
    query::Query,
};

/// Events in one write.
const AT_ONCE: usize = 64;

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(network_events))
}

/// What was decided of all that a sandbox sent out, one JSON value per line, oldest first. The last
/// 512 events are kept, also for an hour after its end; who reads too slowly gets a line that says how many
/// it missed.
#[utoipa::path(
    get,
    path = "/soulbox/v1/sandboxes/{sandboxID}/network/events",
    tag = "soulbox",
    params(
        ("sandboxID" = String, Path),
        ("follow" = Option<bool>, Query, description = "Go on until the sandbox ends"),
        ("since" = Option<u64>, Query, description = "Number of the first event"),
    ),
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses(
        (status = 200, body = NetworkEvent, content_type = "application/x-ndjson"),
        Problem
    )
)]
async fn network_events(
    holder: TokenHolder,
    SandboxPath(id): SandboxPath,
    query: Query,
    State(app): State<App>,
) -> Result<Response> {
    let since = query.integer("since", 0..=i64::MAX)?.unwrap_or(0).unsigned_abs();
    let follow = match query.text("follow")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::invalid("follow", "must be true or false")),
    };
    let reader = app.control.traffic(holder.caller.team, &id, since, follow)?;
    let lines = Body::from_stream(lines(reader, follow));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

/// As it is read: nothing is kept for a slow reader.
fn lines(
    reader: TrafficReader,
    follow: bool,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    stream::unfold((reader, follow), |(mut reader, mut follow)| async move {
        loop {
            let part = reader.part(AT_ONCE);
            if part.lost > 0 || !part.events.is_empty() {
                return Some((Ok(written(part)), (reader, follow)));
            }
            if !follow {
                return None;
            }
            follow = reader.more().await;
        }
    })
}

fn written(Part { lost, first, events }: Part) -> Bytes {
    let missed = (lost > 0)
        .then(|| NetworkEvent { lost: Some(lost), ..blank(first - lost, NetworkDecision::Lost) });
    let events = (first..).zip(events).map(|(number, event)| render(number, event));
    let mut text = Vec::new();
    for event in missed.into_iter().chain(events) {
        // Of plain texts and numbers, which JSON always has a form for.
        if serde_json::to_writer(&mut text, &event).is_ok() {
            text.push(b'\n');
        }
    }
    text.into()
}

fn blank(number: u64, decision: NetworkDecision) -> NetworkEvent {
    NetworkEvent {
        number,
        decision,
        lost: None,
        time: None,
        protocol: None,
        name: None,
        address: None,
        port: None,
        rule: None,
        reason: None,
        flow: None,
        sent_bytes: None,
        received_bytes: None,
        duration_ms: None,
    }
}

fn render(number: u64, event: Event) -> NetworkEvent {
    let decision = match event.decision {
        Decision::Allowed => NetworkDecision::Allowed,
        Decision::Denied => NetworkDecision::Denied,
        Decision::Failed => NetworkDecision::Failed,
        Decision::Ended => NetworkDecision::Ended,
    };
    NetworkEvent {
        time: Some(event.at),
        protocol: Some(event.protocol.to_owned()),
        name: event.target.name.map(|name| name.to_string()),
        address: event.target.address.map(|address| address.to_string()),
        port: event.target.port,
        rule: Some(event.rule),
        reason: event.reason,
        flow: event.flow,
        sent_bytes: event.carried.map(|carried| carried.sent),
        received_bytes: event.carried.map(|carried| carried.received),
        duration_ms: event.carried.map(|carried| carried.millis),
        ..blank(number, decision)
    }
}
