//! Private ports and masked hosts over HTTP.

use serde_json::{Value, json};
use soulbox_control::Pass;

use crate::server::{Answer, NOBODY, Server};

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

/// The words of a 400.
#[track_caller]
fn refusal(answer: &Answer) -> String {
    assert_eq!(answer.problem(400), "SB-INVALID");
    answer.json()["message"].as_str().unwrap().to_owned()
}

fn port(number: u16) -> soulbox_model::Port {
    soulbox_model::Port::new(number).unwrap()
}

#[tokio::test]
async fn a_list_of_ports_exposes_these_alone() {
    let server = Server::new().await;
    let exposed = |id: &soulbox_model::SandboxId, number| {
        server.control.port_access(id).unwrap().check_exposed(port(number)).is_ok()
    };
    let listed = server.sandbox(json!({"soulbox": {"ports": [8000, 8080]}})).await;
    assert!(exposed(&listed, 8000) && exposed(&listed, 8080) && !exposed(&listed, 8001));
    let none = server.sandbox(json!({"soulbox": {"ports": []}})).await;
    assert!(!exposed(&none, 8000));
    for unsaid in [json!({}), json!({"soulbox": {}}), json!({"soulbox": {"ports": null}})] {
        let any = server.sandbox(unsaid).await;
        assert!(exposed(&any, 8000) && exposed(&any, 8001));
        let detail = server.get(&format!("/sandboxes/{any}")).await.json();
        assert!(detail.get("soulbox").is_none(), "{detail}");
    }

    // It is told back, leaves the way out as it was, and outlives a change of that.
    let path = format!("/sandboxes/{listed}");
    let detail = server.get(&path).await.json();
    assert_eq!(detail["soulbox"], json!({"ports": [8000, 8080]}));
    assert_eq!(detail["network"], json!({"allowPublicTraffic": true}));
    let update = json!({"denyOut": ["10.0.0.0/8"]}).to_string();
    assert_eq!(server.call("PUT", &format!("{path}/network"), &update).await.status, 204);
    assert!(!exposed(&listed, 8001));
    let shut = json!({"soulbox": {"ports": [8000]}, "allow_internet_access": false});
    let shut = server.sandbox(shut).await;
    let detail = server.get(&format!("/sandboxes/{shut}")).await.json();
    assert_eq!(detail["allowInternetAccess"], false);

    for (ports, word) in [
        (json!([0]), "0 is no port"),
        (json!([65536]), "65536 is no port"),
        (json!([8000, 49983]), "49983 is the agent's port"),
        (json!(vec![8000; 257]), "at most 256 ports"),
    ] {
        let body = json!({"templateID": "host", "soulbox": {"ports": ports}});
        for route in ["/sandboxes", "/v2/sandboxes"] {
            let answer = server.post(route, body.clone()).await;
            let message = refusal(&answer);
            assert!(message.starts_with("soulbox.ports") && message.contains(word), "{message}");
        }
    }
}

#[tokio::test]
async fn what_is_not_exposed_gets_neither_pass_nor_name() {
    let server = Server::new().await;
    let asked = json!({"soulbox": {"ports": [8000]}, "secure": true,
        "network": {"allowPublicTraffic": false}});
    let id = server.sandbox(asked).await;
    let passes = format!("/soulbox/v1/sandboxes/{id}/passes");
    assert_eq!(server.post(&passes, json!({"port": 8000})).await.status, 201);
    let refused = "port: 8001 is not exposed; exposed are 8000";
    assert_eq!(refusal(&server.post(&passes, json!({"port": 8001})).await), refused);
    let domains = format!("/soulbox/v1/sandboxes/{id}/domains");
    let to = |port: u16| json!({"domains": ["shop.example"], "port": port}).to_string();
    assert_eq!(refusal(&server.call("PUT", &domains, &to(8001)).await), refused);
    assert_eq!(server.call("PUT", &domains, &to(8000)).await.status, 204);
}
