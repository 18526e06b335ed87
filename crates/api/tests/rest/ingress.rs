//! Private ports and masked hosts over HTTP.

use serde_json::{Value, json};
use soulbox_control::Pass;

use crate::server::{NOBODY, Server};

async fn create(server: &Server, network: Value) -> Value {
    let body = json!({"templateID": "host", "timeout": 60, "secure": true, "network": network});
    let answer = server.post("/sandboxes", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn a_private_sandbox_has_a_traffic_token_that_stays() {
    let server = Server::new().await;
    let public = create(&server, json!({"allowPublicTraffic": true})).await;
    assert!(public.get("trafficAccessToken").is_none_or(Value::is_null), "{public}");
    let made = create(&server, json!({"allowPublicTraffic": false})).await;
    let token = made["trafficAccessToken"].as_str().unwrap();
    assert_eq!(token.len(), 64);
    assert_ne!(Some(token), made["envdAccessToken"].as_str());
    let other = create(&server, json!({"allowPublicTraffic": false})).await;
    assert_ne!(Some(token), other["trafficAccessToken"].as_str());

    let id = made["sandboxID"].as_str().unwrap();
    let connected = server.post(&format!("/sandboxes/{id}/connect"), json!({"timeout": 60})).await;
    assert_eq!(connected.json()["trafficAccessToken"], token);
    let access = server.control.port_access(&id.parse().unwrap()).unwrap();
    assert!(access.admits(token.as_bytes()));

    // Who may ask for a sandbox is told that it is private, and an update of egress leaves that.
    let path = format!("/sandboxes/{id}/network");
    let update = json!({"denyOut": ["10.0.0.0/8"]}).to_string();
    assert_eq!(server.call("PUT", &path, &update).await.status, 204);
    let detail = server.get(&format!("/sandboxes/{id}")).await;
    assert_eq!(detail.json()["network"]["allowPublicTraffic"], false);
    assert!(!String::from_utf8_lossy(&detail.body).contains(token));
    assert!(!server.control.port_access(&id.parse().unwrap()).unwrap().is_public());
}

#[tokio::test]
async fn a_mask_is_told_back_and_kept() {
    let server = Server::new().await;
    let made = create(&server, json!({"maskRequestHost": "localhost:${PORT}"})).await;
    let id = made["sandboxID"].as_str().unwrap();
    let detail = server.get(&format!("/sandboxes/{id}")).await.json();
    assert_eq!(detail["network"]["maskRequestHost"], "localhost:${PORT}");
    let access = server.control.port_access(&id.parse().unwrap()).unwrap();
    let port = soulbox_model::Port::new(8080).unwrap();
    assert_eq!(access.mask().unwrap().for_port(port), "localhost:8080");
}

#[tokio::test]
async fn a_pass_opens_one_port_for_a_time() {
    let server = Server::new().await;
    let made = create(&server, json!({"allowPublicTraffic": false})).await;
    let id = made["sandboxID"].as_str().unwrap();
    let path = format!("/soulbox/v1/sandboxes/{id}/passes");
    let answer = server.post(&path, json!({"port": 3000, "timeout": 60})).await;
    assert_eq!(answer.status, 201);
    let answer = answer.json();
    assert_eq!(answer["parameter"], "e2b-traffic-access-token");
    let pass = answer["pass"].as_str().unwrap().as_bytes();
    let access = server.control.port_access(&id.parse().unwrap()).unwrap();
    let admits = |port, after| {
        let now = chrono::Utc::now() + chrono::TimeDelta::seconds(after);
        access.admits_pass(Pass::Url, soulbox_model::Port::new(port).unwrap(), pass, now)
    };
    assert!(admits(3000, 0) && !admits(3001, 0) && !admits(3000, 61));

    for (body, field) in [
        (json!({"port": 0}), "port"),
        (json!({"port": 65536}), "port"),
        (json!({"port": 3000, "timeout": 0}), "timeout"),
        (json!({"port": 3000, "timeout": 86401}), "timeout"),
    ] {
        let answer = server.post(&path, body).await;
        answer.problem(400);
        assert!(answer.json()["message"].as_str().unwrap().starts_with(field), "{answer:?}");
    }
    let nobody = format!("/soulbox/v1/sandboxes/{NOBODY}/passes");
    server.post(&nobody, json!({"port": 3000})).await.problem(404);
    let public = create(&server, json!({})).await["sandboxID"].as_str().unwrap().to_owned();
    let path = format!("/soulbox/v1/sandboxes/{public}/passes");
    server.post(&path, json!({"port": 3000})).await.problem(409);
}
