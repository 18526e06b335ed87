use chrono::{DateTime, Utc};
use serde_json::json;

use crate::server::{NOBODY, Server, has_fields};

async fn remaining(server: &Server, id: impl std::fmt::Display) -> i64 {
    let detail = server.get(&format!("/sandboxes/{id}")).await.json();
    let end: DateTime<Utc> = detail["endAt"].as_str().unwrap().parse().unwrap();
    (end - Utc::now()).num_seconds()
}

#[tokio::test]
async fn the_detail_has_what_every_client_reads() {
    let server = Server::new().await;
    let id = server.sandbox(json!({"metadata": {"k": "v"}, "secure": true})).await;
    let detail = server.get(&format!("/sandboxes/{id}")).await.json();
    has_fields(
        &detail,
        &[
            "templateID",
            "sandboxID",
            "clientID",
            "startedAt",
            "endAt",
            "envdVersion",
            "cpuCount",
            "memoryMB",
            "diskSizeMB",
            "state",
            "envdAccessToken",
            "metadata",
            "lifecycle",
            "volumeMounts",
        ],
    );
    assert_eq!(detail["state"], "running");
    assert_eq!(detail["metadata"], json!({"k": "v"}));
    assert_eq!(detail["lifecycle"], json!({"onTimeout": "kill", "autoResume": false}));
    assert!(detail.get("network").is_none(), "a null network crashes a client");
}

#[tokio::test]
async fn old_clients_append_the_client_id() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let path = format!("/sandboxes/{id}-6532622b");
    assert_eq!(server.get(&path).await.json()["sandboxID"], id.as_str());
    assert_eq!(server.call("DELETE", &path, "").await.status, 204);
}

#[tokio::test]
async fn a_kill_is_a_204_once_and_a_404_ever_after() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let path = format!("/sandboxes/{id}");
    let killed = server.call("DELETE", &path, "").await;
    assert_eq!((killed.status.as_u16(), killed.body.len()), (204, 0));
    assert_eq!(server.machine.alive(), 0);
    assert_eq!(server.call("DELETE", &path, "").await.problem(404), "SB-NOT-FOUND");
    for (method, tail, body) in [
        ("GET", "", ""),
        ("POST", "/timeout", r#"{"timeout":5}"#),
        ("POST", "/refreshes", "{}"),
        ("POST", "/connect", r#"{"timeout":5}"#),
        ("POST", "/resume", ""),
    ] {
        server.call(method, &format!("{path}{tail}"), body).await.problem(404);
    }
}

#[tokio::test]
async fn a_timeout_moves_the_end_both_ways() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let path = format!("/sandboxes/{id}/timeout");
    for (seconds, low, high) in [(1000, 990, 1000), (50, 40, 50), (i32::MAX, 86_300, 86_400)] {
        let answer = server.post(&path, json!({"timeout": seconds})).await;
        assert_eq!(answer.status, 204);
        let left = remaining(&server, &id).await;
        assert!((low..=high).contains(&left), "{seconds}: {left}");
    }
}

#[tokio::test]
async fn a_timeout_of_zero_or_less_ends_it() {
    let server = Server::new().await;
    for seconds in [0, -5, i32::MIN] {
        let id = server.sandbox(json!({})).await;
        let path = format!("/sandboxes/{id}/timeout");
        assert_eq!(server.post(&path, json!({"timeout": seconds})).await.status, 204);
        let path = format!("/sandboxes/{id}");
        let ended = async {
            while server.get(&path).await.status != 404 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.unwrap();
    }
}

#[tokio::test]
async fn connect_only_ever_extends() {
    let server = Server::new().await;
    let id = server.sandbox(json!({"secure": true})).await;
    let path = format!("/sandboxes/{id}/connect");
    for (seconds, low, high) in [(10, 290, 300), (600, 590, 600), (0, 590, 600)] {
        let answer = server.post(&path, json!({"timeout": seconds})).await;
        assert_eq!(answer.status, 200);
        has_fields(
            &answer.json(),
            &["sandboxID", "templateID", "clientID", "envdVersion", "envdAccessToken"],
        );
        let left = remaining(&server, &id).await;
        assert!((low..=high).contains(&left), "{seconds}: {left}");
    }
    server.post(&path, json!({"timeout": 86_401})).await.problem(400);
    server.post(&path, json!({"timeout": -1})).await.problem(400);
}

#[tokio::test]
async fn connect_v2_takes_no_body_and_means_300_seconds() {
    let server = Server::new().await;
    let id = server.sandbox(json!({"timeout": 30})).await;
    let path = format!("/v2/sandboxes/{id}/connect");
    for body in ["", "{}", r#"{"memory":false}"#] {
        assert_eq!(server.call("POST", &path, body).await.status, 200, "{body}");
    }
    assert!((290..=300).contains(&remaining(&server, &id).await));
    server.call("POST", &format!("/sandboxes/{id}/connect"), "").await.problem(400);
}

#[tokio::test]
async fn a_refresh_extends_by_15_seconds_at_least() {
    let server = Server::new().await;
    let id = server.sandbox(json!({"timeout": 5})).await;
    let path = format!("/sandboxes/{id}/refreshes");
    for body in ["", "{}", r#"{"duration":0}"#] {
        assert_eq!(server.call("POST", &path, body).await.status, 204);
    }
    assert!((13..=15).contains(&remaining(&server, &id).await));
    assert_eq!(server.post(&path, json!({"duration": 3600})).await.status, 204);
    assert!(remaining(&server, &id).await > 3590);
    assert_eq!(server.post(&path, json!({"duration": 20})).await.status, 204);
    assert!(remaining(&server, &id).await > 3590);
    for bad in [-1, 3601] {
        server.post(&path, json!({"duration": bad})).await.problem(400);
    }
}

#[tokio::test]
async fn resuming_a_running_one_is_a_conflict() {
    let server = Server::new().await;
    let id = server.sandbox(json!({})).await;
    let path = format!("/sandboxes/{id}/resume");
    for body in ["", "{}", r#"{"timeout":15,"autoPause":false}"#] {
        assert_eq!(server.call("POST", &path, body).await.problem(409), "SB-CONFLICT");
    }
    server.call("POST", &format!("/sandboxes/{NOBODY}/resume"), "").await.problem(404);
}
