//! The OpenAPI document against the router.

use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use crate::server::Server;

const METHODS: &[&str] = &["get", "put", "post", "delete", "patch"];

/// Every operation of the document: path and method.
fn operations(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, item)| {
        let methods =
            item.as_object().unwrap().keys().filter(|key| METHODS.contains(&key.as_str()));
        methods.map(move |method| (path.clone(), method.to_uppercase()))
    });
    each.collect()
}

/// A path with something in place of each parameter.
fn concrete(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "x".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_operation_is_routed_and_every_route_is_documented() {
    let server = Server::new().await;
    let document = server.get("/soulbox/v1/openapi.json").await.json();
    let operations = operations(&document);
    assert!(operations.len() > 60, "{}", operations.len());

    for (path, method) in &operations {
        let method: Method = method.parse().unwrap();
        let answer = server.anonymous(method.clone(), &concrete(path)).await;
        let status = answer.status.as_u16();
        assert!([200, 401, 501].contains(&status), "{method} {path}: {answer:?}");
    }

    // A method that nothing serves brings out those that something does.
    let paths: BTreeSet<_> = operations.iter().map(|(path, _)| path).collect();
    for path in paths {
        let answer = server.anonymous("BREW".parse().unwrap(), &concrete(path)).await;
        answer.problem(405);
        let allowed: BTreeSet<_> =
            answer.header("allow").unwrap().split(',').filter(|name| *name != "HEAD").collect();
        let documented: BTreeSet<_> = operations
            .iter()
            .filter(|(other, _)| other == path)
            .map(|(_, method)| method.as_str())
            .collect();
        assert_eq!(allowed, documented, "{path}");
    }
}

#[tokio::test]
async fn every_reference_of_the_document_resolves() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(target)) = object.get("$ref") {
                    found.insert(target.clone());
                }
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = serde_json::to_value(soulbox_api::openapi()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 15, "{found:?}");
    for target in found {
        let pointer = target.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
}

#[tokio::test]
async fn operation_ids_are_unique_and_errors_have_a_schema() {
    let document = serde_json::to_value(soulbox_api::openapi()).unwrap();
    let mut ids = BTreeSet::new();
    for (path, method) in operations(&document) {
        let operation = &document["paths"][&path][method.to_lowercase()];
        if let Some(id) = operation["operationId"].as_str() {
            assert!(ids.insert(id.to_owned()), "{id}");
        }
        assert!(operation["responses"].as_object().is_some_and(|all| !all.is_empty()), "{path}");
    }
    let error = &document["components"]["schemas"]["Error"];
    assert_eq!(error["required"], serde_json::json!(["code", "message"]));
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}
