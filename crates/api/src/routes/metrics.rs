//! Counters of a team, for a system that scrapes them.

use std::fmt::Write as _;

use axum::{extract::State, response::IntoResponse};
use http::header;
use soulbox_control::Tally;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{App, auth::TokenHolder, problem::Problem};

/// Version 0.0.4 of Prometheus's text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(team_metrics))
}

/// Counters of the team's sandboxes since the server began, in Prometheus's text format.
#[utoipa::path(
    get,
    path = "/soulbox/v1/metrics",
    tag = "soulbox",
    security(("ApiKeyAuth" = []), ("BearerAuth" = [])),
    responses((status = 200, body = String, content_type = "text/plain"), Problem)
)]
async fn team_metrics(holder: TokenHolder, State(app): State<App>) -> impl IntoResponse {
    let tally = app.control.tally(holder.caller.team);
    ([(header::CONTENT_TYPE, FORMAT)], written(&tally))
}

fn written(tally: &Tally) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let Tally { living, ended, network } = tally;
    metric("soulbox_sandboxes", "gauge", "Sandboxes that exist.", &[("", *living)]);
    metric("soulbox_sandboxes_ended_total", "counter", "Sandboxes that ended.", &[("", *ended)]);
    metric(
        "soulbox_network_decisions_total",
        "counter",
        "Connections, requests and questions to name servers.",
        &[
            ("{decision=\"allowed\"}", network.allowed),
            ("{decision=\"denied\"}", network.denied),
            ("{decision=\"failed\"}", network.failed),
        ],
    );
    let bytes = "Bytes out of sandboxes.";
    metric("soulbox_network_sent_bytes_total", "counter", bytes, &[("", network.sent)]);
    let bytes = "Bytes into sandboxes.";
    metric("soulbox_network_received_bytes_total", "counter", bytes, &[("", network.received)]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_described_once_and_has_its_values_below() {
        let text = written(&Tally { living: 2, ended: 7, ..Tally::default() });
        assert!(text.starts_with(
            "# HELP soulbox_sandboxes Sandboxes that exist.\n\
             # TYPE soulbox_sandboxes gauge\n\
             soulbox_sandboxes 2\n"
        ));
        assert!(text.contains("\nsoulbox_sandboxes_ended_total 7\n"));
        assert!(text.contains("\nsoulbox_network_decisions_total{decision=\"denied\"} 0\n"));
        assert_eq!(text.matches("# TYPE").count(), 5);
    }
}
