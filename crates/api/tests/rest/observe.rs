use serde_json::{Value, json};

use crate::server::{NOBODY, Server, has_fields};

const METRIC: &[&str] = &[
    "timestamp",
    "timestampUnix",
    "cpuCount",
    "cpuUsedPct",
    "memUsed",
    "memTotal",
    "memCache",
    "diskUsed",
    "diskTotal",
    "memUsedMiB",
    "memTotalMiB",
];

async fn first_metric(server: &Server, id: &str) -> Value {
    let path = format!("/sandboxes/{id}/metrics");
    for _ in 0..200 {
        let list = server.get(&path).await.json();
        if let Some(metric) = list.as_array().unwrap().first() {
            return metric.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no sample came");
}

#[tokio::test]
async fn metrics_come_with_all_fields_and_within_the_range() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let metric = first_metric(&server, id.as_str()).await;
    has_fields(&metric, METRIC);
    assert!(metric["memTotal"].as_u64() >= metric["memUsed"].as_u64());
    let unix = metric["timestampUnix"].as_i64().unwrap();
    let count = async |query: String| {
        let list = server.get(&format!("/sandboxes/{id}/metrics?{query}")).await.json();
        list.as_array().unwrap().len()
    };
    assert_eq!(count(format!("start={}", unix + 3600)).await, 0);
    assert_eq!(count(format!("end={}", unix - 3600)).await, 0);
    assert!(count(format!("start={}&end={}", unix - 3600, unix + 3600)).await >= 1);

    let batch = server.get(&format!("/sandboxes/metrics?sandbox_ids={id},{NOBODY}")).await.json();
    let sandboxes = batch["sandboxes"].as_object().unwrap();
    assert_eq!(sandboxes.keys().collect::<Vec<_>>(), [id.as_str()]);
    has_fields(&sandboxes[id.as_str()], METRIC);
}

#[tokio::test]
async fn an_unknown_sandbox_has_no_metrics() {
    let server = Server::new().await;
    assert_eq!(server.get(&format!("/sandboxes/{NOBODY}/metrics")).await.json(), json!([]));
}

#[tokio::test]
async fn a_batch_is_bounded() {
    let server = Server::new().await;
    let ids = |count: usize| (0..count).map(|n| format!("i{n:020}")).collect::<Vec<_>>().join(",");
    let answer = server.get(&format!("/sandboxes/metrics?sandbox_ids={}", ids(100))).await;
    assert_eq!(answer.json(), json!({"sandboxes": {}}));
    server.get(&format!("/sandboxes/metrics?sandbox_ids={}", ids(101))).await.problem(400);
    server.get("/sandboxes/metrics").await.problem(400);
    server.get("/sandboxes/metrics?sandbox_ids=../x").await.problem(400);
    let twice = format!("{},{}", ids(60), ids(60));
    let answer = server.get(&format!("/sandboxes/metrics?sandbox_ids={twice}")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn every_line_of_the_old_logs_is_json_with_level_and_message() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let now = chrono::Utc::now().timestamp_millis();
    let guest = server.machine.guest(&id).unwrap();
    guest.note(now, "info", "started");
    guest.note(now + 1, "error", "failed \"badly\"\n");
    let body = server.get(&format!("/sandboxes/{id}/logs")).await.json();
    let mut messages = Vec::new();
    for log in body["logs"].as_array().unwrap() {
        has_fields(log, &["timestamp", "line"]);
        let line: Value = serde_json::from_str(log["line"].as_str().unwrap()).unwrap();
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
        messages.push(line["message"].as_str().unwrap().to_owned());
    }
    assert!(messages.contains(&"failed \"badly\"\n".to_owned()), "{messages:?}");
    let entries = body["logEntries"].as_array().unwrap();
    assert_eq!(entries.len(), messages.len());
    has_fields(&entries[0], &["timestamp", "level", "message", "fields"]);

    let later = server.get(&format!("/sandboxes/{id}/logs?start={}", now + 1)).await.json();
    let later = later["logEntries"].as_array().unwrap();
    assert!(later.iter().all(|entry| entry["message"] != "started"), "{later:?}");
}

#[tokio::test]
async fn the_new_logs_filter_and_turn() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let guest = server.machine.guest(&id).unwrap();
    let now = chrono::Utc::now().timestamp_millis();
    for (at, level, message) in [(1, "debug", "one"), (2, "warn", "two"), (3, "error", "three")] {
        guest.note(now + at, level, message);
    }
    let messages = async |query: &str| {
        let body = server.get(&format!("/v2/sandboxes/{id}/logs?{query}")).await.json();
        let logs = body["logs"].as_array().unwrap();
        logs.iter().map(|log| log["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert_eq!(messages("level=warn").await, ["three", "two"]);
    assert_eq!(messages("level=warn&direction=forward").await, ["two", "three"]);
    assert_eq!(messages("search=thr").await, ["three"]);
    assert_eq!(messages("limit=1").await, ["three"]);
    assert_eq!(messages("limit=0").await, Vec::<String>::new());
    server.get(&format!("/v2/sandboxes/{NOBODY}/logs")).await.problem(404);
    server.get(&format!("/sandboxes/{NOBODY}/logs")).await.problem(404);
}
