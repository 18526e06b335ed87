use serde_json::json;

use crate::server::{Server, has_fields};

#[tokio::test]
async fn the_list_has_what_the_cli_reads() {
    let server = Server::new().await;
    for path in ["/templates", "/v2/templates", "/default-templates", "/templates?teamID=prj_1"] {
        let list = server.get(path).await.json();
        let host = list.as_array().unwrap().iter().find(|row| row["templateID"] == "host").unwrap();
        has_fields(
            host,
            &[
                "templateID",
                "buildID",
                "cpuCount",
                "memoryMB",
                "diskSizeMB",
                "public",
                "aliases",
                "names",
                "createdAt",
                "updatedAt",
                "spawnCount",
                "buildCount",
                "envdVersion",
                "buildStatus",
            ],
        );
        let build = host["buildID"].as_str().unwrap();
        assert!(build.parse::<uuid::Uuid>().is_ok_and(|id| !id.is_nil()), "{build}");
        assert_eq!(host["buildStatus"], "ready");
        assert!(host.get("createdBy").is_some() && host.get("lastSpawnedAt").is_some());
    }
}

#[tokio::test]
async fn an_alias_is_there_even_before_its_build() {
    let server = Server::new().await;
    for name in ["base", "host", "host%3Adefault", "base:latest"] {
        let answer = server.get(&format!("/templates/aliases/{name}")).await;
        has_fields(&answer.json(), &["templateID", "public"]);
    }
    for name in ["nothing", "host:v9", "ns%2Fhost", "ns/host"] {
        server.get(&format!("/templates/aliases/{name}")).await.problem(404);
    }
    server.get("/templates/aliases/a%20b").await.problem(400);
}

#[tokio::test]
async fn builds_are_started_and_followed() {
    let server = Server::new().await;
    let built = server.call("POST", "/soulbox/v1/templates/host/build", "").await;
    assert_eq!(built.status, 200);
    assert_eq!(built.json()["state"], "ready");
    has_fields(&built.json(), &["name", "template_id", "size_bytes", "created_at"]);
    let base = server.get("/soulbox/v1/templates/base/build").await.json();
    assert_eq!(base, json!({"name": "base", "state": "missing"}));
    assert_eq!(server.get("/soulbox/v1/templates/base").await.json(), base);
    let all = server.get("/soulbox/v1/templates").await.json();
    assert_eq!(all.as_array().unwrap().len(), 2);
    for (method, path) in [
        ("GET", "/soulbox/v1/templates/x"),
        ("POST", "/soulbox/v1/templates/x/build"),
        ("GET", "/soulbox/v1/templates/x/build"),
    ] {
        server.call(method, path, "").await.problem(404);
    }
}

#[tokio::test]
async fn the_server_tells_what_it_is() {
    let server = Server::new().await;
    server.sandbox(json!({})).await;
    let info = server.get("/soulbox/v1/info").await.json();
    assert_eq!(info["version"], "1.2.3");
    assert_eq!(info["engine"], "processes");
    assert_eq!(info["running"], 1);
    assert!(info["domain"].is_null());
}
