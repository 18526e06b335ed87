use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::server::{Server, has_fields};

async fn row(server: &Server, id: &str) -> Value {
    let listed = server.get("/api-keys").await.json();
    listed.as_array().unwrap().iter().find(|key| key["id"] == id).unwrap().clone()
}

#[tokio::test]
async fn a_key_is_made_used_renamed_and_revoked() {
    let server = Server::new().await;
    let made = server.post("/api-keys", json!({"name": "ci"})).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    has_fields(&made, &["id", "name", "key", "mask", "createdAt"]);
    let plain = made["key"].as_str().unwrap();
    let id = made["id"].as_str().unwrap();
    assert!(plain.starts_with("e2b_") && plain.len() == 44);
    assert!(plain.ends_with(made["mask"]["maskedValueSuffix"].as_str().unwrap()));

    let list_with = async |key: &str| {
        let request = Request::get("/v2/sandboxes").header("x-api-key", key);
        server.send(request.body(axum::body::Body::empty()).unwrap()).await.status.as_u16()
    };
    assert_eq!(list_with(plain).await, 200);

    let path = format!("/api-keys/{id}");
    assert_eq!(server.call("PATCH", &path, r#"{"name":"ci 2"}"#).await.status, 200);
    let listed = server.get("/api-keys").await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(plain));
    let row = row(&server, id).await;
    assert_eq!(row["name"], "ci 2");
    assert!(row.get("createdBy").is_some_and(Value::is_null));
    // Uses are written down in the background.
    let noted = async {
        while !self::row(&server, id).await["lastUsed"].is_string() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted).await.unwrap();

    assert_eq!(server.call("DELETE", &path, "").await.status, 204);
    assert_eq!(list_with(plain).await, 401);
    server.call("DELETE", &path, "").await.problem(404);
    server.call("PATCH", &path, r#"{"name":"x"}"#).await.problem(404);
}

#[tokio::test]
async fn a_bad_name_or_id_is_refused() {
    let server = Server::new().await;
    let long = "x".repeat(129);
    for name in ["", "   ", "a\nb", &long] {
        server.post("/api-keys", json!({"name": name})).await.problem(400);
    }
    server.post("/api-keys", json!({})).await.problem(400);
    server.call("DELETE", "/api-keys/1", "").await.problem(400);
    server.call("PATCH", "/api-keys/nope", r#"{"name":"x"}"#).await.problem(400);
    assert_eq!(server.get("/api-keys").await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_team_comes_with_the_key_that_asked() {
    let server = Server::new().await;
    let teams = server.get("/teams").await.json();
    has_fields(&teams[0], &["teamID", "name", "apiKey", "isDefault"]);
    assert_eq!(teams[0]["apiKey"], server.key);
    assert_eq!(teams[0]["isDefault"], true);
    assert_eq!(server.get("/api-keys").await.json().as_array().unwrap().len(), 1);
}
