use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::server::{Server, has_fields};

fn ids(list: &Value) -> Vec<String> {
    let items = list.as_array().unwrap();
    items.iter().map(|item| item["sandboxID"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn rows_have_what_every_client_reads() {
    let server = Server::new().await;
    server.sandbox(json!({"metadata": {"a": "b"}})).await;
    for path in ["/sandboxes", "/v2/sandboxes"] {
        let list = server.get(path).await.json();
        has_fields(
            &list[0],
            &[
                "templateID",
                "sandboxID",
                "clientID",
                "startedAt",
                "endAt",
                "cpuCount",
                "memoryMB",
                "diskSizeMB",
                "state",
                "envdVersion",
                "metadata",
                "volumeMounts",
            ],
        );
    }
}

#[tokio::test]
async fn an_empty_list_is_an_array() {
    let server = Server::new().await;
    for path in ["/sandboxes", "/v2/sandboxes", "/v2/sandboxes?state=paused"] {
        let answer = server.get(path).await;
        assert_eq!(answer.json(), json!([]));
        assert_eq!(answer.header("x-next-token"), None);
    }
}

#[tokio::test]
async fn metadata_must_match_in_full() {
    let server = Server::new().await;
    let both = server.sandbox(json!({"metadata": {"user": "a b&c=d", "env": "é+"}})).await;
    server.sandbox(json!({"metadata": {"user": "other"}})).await;
    // `user=a b&c=d` and `env=é+`: escaped, joined and escaped, and escaped again.
    let filter = "user%253Da%252520b%252526c%25253Dd%2526env%253D%2525C3%2525A9%25252B";
    for path in ["/sandboxes", "/v2/sandboxes"] {
        let list = server.get(&format!("{path}?metadata={filter}")).await.json();
        assert_eq!(ids(&list), [both.as_str()], "{path}");
        let none = server.get(&format!("{path}?metadata=user%3Dnobody")).await.json();
        assert_eq!(none, json!([]));
    }
}

#[tokio::test]
async fn states_and_templates_filter() {
    let server = Server::new().await;
    server.sandbox(json!({})).await;
    for (query, found) in [
        ("state=running", 1),
        ("state=running,paused", 1),
        ("state=running%2Cpaused", 1),
        ("state=paused", 0),
        ("template=host", 1),
        ("template=nothing", 0),
        ("startedAfter=2020-01-01T00:00:00Z", 1),
        ("startedAfter=2099-01-01T00:00:00Z", 0),
        ("unknown=1", 1),
    ] {
        let answer = server.get(&format!("/v2/sandboxes?{query}")).await;
        assert_eq!(answer.json().as_array().unwrap().len(), found, "{query}");
        let total = (query != "state=paused").then(|| found.to_string());
        assert_eq!(answer.header("x-total-running"), total.as_deref(), "{query}");
    }
}

#[tokio::test]
async fn pages_cover_everything_once_in_order() {
    let server = Server::new().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(server.sandbox(json!({})).await.to_string());
    }
    for order in ["asc", "desc"] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let query = format!("/v2/sandboxes?limit=3&order={order}&nextToken={token}");
            let answer = server.get(&query).await;
            let page = ids(&answer.json());
            assert!(page.len() <= 3);
            assert_eq!(answer.header("x-total-running"), Some("7"));
            seen.extend(page);
            match answer.header("x-next-token") {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        if order == "desc" {
            seen.reverse();
        }
        assert_eq!(seen, made, "{order}");
    }
}

#[tokio::test]
async fn a_token_of_one_order_is_refused_by_the_other() {
    let server = Server::new().await;
    for _ in 0..2 {
        server.sandbox(json!({})).await;
    }
    let answer = server.get("/v2/sandboxes?limit=1").await;
    let token = answer.header("x-next-token").unwrap();
    server.get(&format!("/v2/sandboxes?order=asc&nextToken={token}")).await.problem(400);
}

#[tokio::test]
async fn the_old_list_has_no_pages() {
    let server = Server::new().await;
    for _ in 0..103 {
        server.sandbox(json!({})).await;
    }
    let all: BTreeSet<_> = ids(&server.get("/sandboxes").await.json()).into_iter().collect();
    assert_eq!(all.len(), 103);
    assert_eq!(server.get("/v2/sandboxes").await.json().as_array().unwrap().len(), 100);
}
