//! Who may ask, and what the plain endpoints answer.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use soulbox_agent::Settings;
use support::{Agent, Answer, agent, agent_with, base64, shell};

const TOKEN: &str = "0123456789abcdef";

fn guarded() -> Agent {
    agent_with(Settings {
        default_user: "root".into(),
        access_token: Some(TOKEN.into()),
        ..Settings::default()
    })
}

async fn request(
    agent: &Agent,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("host", "agent");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    agent.call(request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()).await
}

#[tokio::test]
async fn without_the_token_only_health_answers() {
    let agent = guarded();
    let health = agent.get("/health").await;
    assert_eq!(health.status, StatusCode::NO_CONTENT);
    assert_eq!((health.header("cache-control"), health.body.len()), ("no-store", 0));
    for path in ["/metrics", "/envs", "/soulbox/logs", "/nowhere"] {
        let refused = agent.get(path).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.json()["code"], 401);
        assert!(refused.header("content-type").starts_with("application/json"));
    }
    for content_type in ["application/json", "application/connect+json"] {
        let headers = [("content-type", content_type), ("x-access-token", "0123456789abcdeF")];
        let refused = request(&agent, Method::POST, "/process.Process/List", &headers, "{}").await;
        // A plain HTTP error, on every route.
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.json()["code"], 401);
    }
    let headers = [("content-type", "application/json"), ("x-access-token", TOKEN)];
    let allowed = request(&agent, Method::POST, "/process.Process/List", &headers, "{}").await;
    assert_eq!((allowed.status, allowed.json()), (StatusCode::OK, json!({})));
}

#[tokio::test]
async fn a_browser_may_ask_from_anywhere() {
    let agent = guarded();
    let headers = [
        ("origin", "https://example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,x-access-token,content-type"),
    ];
    let preflight = request(&agent, Method::OPTIONS, "/process.Process/Start", &headers, "").await;
    assert!(preflight.status.is_success());
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert_eq!(preflight.header("access-control-max-age"), "7200");
    assert!(preflight.header("access-control-allow-methods").contains("DELETE"));
    // `*` would not cover `Authorization`.
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        "authorization,x-access-token,content-type"
    );
    let refused = request(&agent, Method::GET, "/envs", &headers[..1], "").await;
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    assert!(refused.header("access-control-expose-headers").contains("location"));
}

#[tokio::test]
async fn an_unknown_user_is_refused_in_the_protocol_of_the_request() {
    let agent = agent();
    let basic = format!("Basic {}", base64(b"ghost:"));
    let call = async |path: &str, content_type: &str| {
        let headers = [("authorization", basic.as_str()), ("content-type", content_type)];
        request(&agent, Method::POST, path, &headers, "{}").await
    };
    let unary = call("/process.Process/List", "application/json").await;
    assert_eq!(unary.status, StatusCode::UNAUTHORIZED);
    let expected = json!({"code": "unauthenticated", "message": "invalid username: 'ghost'"});
    assert_eq!(unary.json(), expected);
    let stream = call("/process.Process/Start", "application/connect+json").await;
    assert_eq!((stream.status, stream.body[0]), (StatusCode::OK, 2));
    let health = request(&agent, Method::GET, "/health", &[("authorization", &basic)], "").await;
    assert_eq!(health.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_no_call_is_told_so() {
    let agent = agent();
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
        request(&agent, Method::POST, path, headers, body).await
    };
    let json = ("content-type", "application/json");
    let list = "/process.Process/List";
    for path in ["/process.Process/Nothing", "/nothing", "/process.Process/"] {
        assert_eq!(post(path, &[json], "{}").await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let get = agent.get(list).await;
    assert_eq!((get.status, get.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let text = post(list, &[("content-type", "text/plain")], "{}").await;
    assert_eq!(text.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(text.header("accept-post").contains("application/connect+json"));
    let broken = post(list, &[json], "{").await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    assert_eq!(broken.json()["code"], "invalid_argument");
    let version = post(list, &[json, ("connect-protocol-version", "2")], "{}").await;
    assert_eq!(version.json()["code"], "invalid_argument");
    let unknown = post(list, &[json], r#"{"of_tomorrow": {"a": [1]}}"#).await;
    assert_eq!(unknown.status, StatusCode::OK, "unknown fields are ignored");
    let charset = post(list, &[("content-type", "application/json; charset=utf-8")], "{}").await;
    assert_eq!(
        (charset.status, charset.header("content-type")),
        (StatusCode::OK, "application/json")
    );
}

#[tokio::test]
async fn settings_are_given_and_shown() {
    let agent = agent();
    let init =
        async |body: Value| request(&agent, Method::POST, "/init", &[], &body.to_string()).await;
    let answer = init(json!({"envVars": {"FOO": "bar"}, "defaultUser": "daemon"})).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("x-envd-version"), soulbox_model::ENVD_VERSION);
    assert_eq!(agent.get("/envs").await.json(), json!({"FOO": "bar"}));
    assert_eq!(agent.run("echo $FOO; id -un").await.stdout(), "bar\ndaemon\n");

    assert_eq!(init(json!({"accessToken": TOKEN})).await.status, StatusCode::NO_CONTENT);
    assert_eq!(agent.get("/envs").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(init(json!({"accessToken": "other"})).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn metrics_are_real_figures() {
    let agent = agent();
    agent.get("/metrics").await;
    agent.run("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done").await;
    let metrics = agent.get("/metrics").await.json();
    let number = |name: &str| metrics[name].as_f64().unwrap();
    assert!(number("cpu_used_pct") > 0.0 && number("cpu_used_pct") <= 100.0);
    assert!(number("cpu_count") >= 1.0 && number("ts") > 1.7e9);
    for (used, total) in [("mem_used", "mem_total"), ("disk_used", "disk_total")] {
        assert!(0.0 < number(used) && number(used) <= number(total), "{metrics}");
    }
    assert_eq!(
        metrics["mem_total_mib"].as_u64().unwrap(),
        metrics["mem_total"].as_u64().unwrap() >> 20
    );
}

#[tokio::test]
async fn the_log_tells_of_starts_and_ends() {
    let agent = agent();
    agent.run("exit 3").await;
    let mut elsewhere = shell("true");
    elsewhere["process"]["cwd"] = json!("/nowhere");
    agent.start(elsewhere).await.collect().await;
    let page = agent.get("/soulbox/logs").await.json();
    let lines = page["lines"].as_array().unwrap();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["process started", "process ended", "process not started"]);
    assert_eq!(lines[1]["fields"]["status"], "exit status 3");
    assert_eq!((lines[2]["level"].as_str(), page["next"].as_u64()), (Some("warn"), Some(3)));
    let rest = agent.get("/soulbox/logs?since=1&limit=1").await.json();
    assert_eq!((&rest["lines"][0], &rest["next"]), (&lines[1], &json!(2)));
}
