//! Every route that the API describes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    attack::{Fault, Outcome, hold},
    field::{Field, unique},
    http::{Answer, Request},
    sandbox::Sandbox,
};

/// Routes that answer everybody: health and the description.
const OPEN: &[&str] = &["/health", "/ready", "/soulbox/v1/openapi.json"];

const METHODS: &[&str] = &["get", "post", "put", "patch", "delete"];

/// Where a route leads.
struct Route {
    method: String,
    path: String,
}

fn routes(field: &Field<'_>) -> Result<Vec<Route>, Fault> {
    let document = field.api("GET", "/soulbox/v1/openapi.json")?.json()?;
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            routes.push(Route { method: method.to_uppercase(), path: path.clone() });
        }
    }
    if routes.len() < 50 {
        return Err(Fault::failed(format!("the API describes {} routes only", routes.len())));
    }
    Ok(routes)
}

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// A path with an id in place of each parameter.
fn fill(path: &str, sandbox: &str, key: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{sandboxID}" => sandbox,
        "{keyID}" | "{apiKeyID}" => key,
        part if part.starts_with('{') => NOBODY,
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

pub(super) fn wrong_keys(field: &Field<'_>) -> Outcome {
    let (routes, shared) = (routes(field)?, field.shared()?);
    let key = &field.ground.key;
    let unknown = format!("e2b_{}", "0".repeat(40));
    let wrong: [(&str, Option<String>); 10] = [
        ("none", None),
        ("empty", Some(String::new())),
        ("unknown", Some(unknown)),
        ("cut", Some(key[..key.len() - 1].to_owned())),
        ("longer", Some(format!("{key}0"))),
        ("upper case", Some(key.to_uppercase())),
        ("of another scheme", Some(format!("sk_{}", &key[4..]))),
        ("SQL", Some("e2b_' OR 1=1 --".into())),
        ("overlong", Some(format!("e2b_{}", "a".repeat(5000)))),
        ("the sandbox's token", Some(shared.token().to_owned())),
    ];
    let mut asked = 0;
    for (kind, key) in &wrong {
        for Route { method, path } in &routes {
            field.check()?;
            let answer =
                field.ask(method, &fill(path, shared.id(), NOBODY), key.as_deref(), None)?;
            asked += 1;
            // What serves nobody needs no key; anything else that answers gives something away.
            let closed = answer.status == 401 || (answer.status == 501 && path_is_foreign(path));
            hold!(
                closed || OPEN.contains(&path.as_str()),
                "{method} {path} with a key that is {kind}: {} {}",
                answer.status,
                answer.text()
            );
            let repeats =
                key.as_ref().is_some_and(|key| key.len() > 8 && answer.text().contains(key));
            hold!(!repeats, "{method} {path} repeats the key: {}", answer.text());
        }
    }
    hold!(shared.is_well(), "the sandbox does not answer any more");
    Ok(format!("{} routes × {} keys: 401", asked / wrong.len(), wrong.len()))
}

/// Routes of E2B that take other credentials than keys; this server answers 501 to everybody.
fn path_is_foreign(path: &str) -> bool {
    ["/volumecontent/", "/access-tokens", "/nodes"].iter().any(|start| path.starts_with(start))
}

fn stranger<'a>(field: &'a Field<'_>) -> Result<&'a str, Fault> {
    let key = field.ground.stranger.as_deref();
    key.ok_or_else(|| Fault::skipped("there is no key of a second team"))
}

pub(super) fn other_team(field: &Field<'_>) -> Outcome {
    let stranger = stranger(field)?;
    let (routes, sandbox) = (routes(field)?, field.fresh()?);
    let ask = |method: &str, path: &str, body: &Value| {
        field.ask(method, path, Some(stranger), Some(body))
    };
    let listed = field.ask("GET", "/sandboxes", Some(stranger), None)?;
    hold!(listed.text().trim() == "[]", "the stranger sees sandboxes: {}", listed.text());
    let keys = field.api("GET", "/api-keys")?.json()?;
    let key = keys[0]["id"].as_str().unwrap_or_default().to_owned();
    hold!(!key.is_empty(), "the team has no key: {keys}");
    let missing = format!("i{}", "f".repeat(sandbox.id().len() - 1));
    let (mut asked, mut wrong) = (0, Vec::new());
    for Route { method, path } in &routes {
        field.check()?;
        let body = right_body(path);
        let names_one =
            path.contains("{sandboxID}") || path.contains("{keyID}") || path.contains("{apiKeyID}");
        if !names_one {
            // Whatever it does, it must not tell of others.
            if method == "GET" {
                let text = ask(method, &fill(path, &missing, NOBODY), &body)?.text();
                hold!(
                    !text.contains(sandbox.id()) && !text.contains(&key),
                    "{path} tells of another team"
                );
            }
            continue;
        }
        asked += 1;
        let theirs = ask(method, &fill(path, sandbox.id(), &key), &body)?;
        let nobodys = ask(method, &fill(path, &missing, NOBODY), &body)?;
        // Lists of what is not there are empty.
        let nothing = matches!(theirs.status, 404 | 501) || theirs.text().trim() == "[]";
        if !nothing || words(&theirs) != words(&nobodys) {
            wrong.push(format!("{method} {path}: {} {}", theirs.status, theirs.text()));
        }
    }
    hold!(wrong.is_empty(), "{}", wrong.join("; "));
    hold!(asked > 5, "only {asked} routes name a sandbox or a key");
    let [ours, theirs] = medians(field, stranger, [sandbox.id(), &missing])?;
    let apart = ours.abs_diff(theirs);
    hold!(apart < Duration::from_millis(5), "an id that exists takes {apart:?} longer or shorter");
    unharmed(field, &sandbox, &key)?;
    Ok(format!(
        "{asked} routes answer as for ids that do not exist, {} µs apart",
        apart.as_micros()
    ))
}

/// A body that the route takes: one that it does not take would be refused whatever it is for.
fn right_body(path: &str) -> Value {
    match path.rsplit('/').next() {
        Some("network" | "requests") => json!({}),
        Some("domains") => json!({"port": 3000, "domains": []}),
        Some("passes") => json!({"port": 3000}),
        _ => json!({"timeout": 1, "duration": 1, "name": "x"}),
    }
}

/// An answer without the ids in it.
fn words(answer: &Answer) -> (u16, String) {
    let text = answer.text();
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let shown = parts.map(|word| if word.len() >= 20 { "ID" } else { word });
    (answer.status, shown.collect::<Vec<_>>().join(" "))
}

/// How long answers about each of two ids take. They take turns, so that other work slows both.
fn medians(field: &Field<'_>, key: &str, ids: [&str; 2]) -> Result<[Duration; 2], Fault> {
    let mut taken = [Vec::new(), Vec::new()];
    for _ in 0..40 {
        for (id, taken) in ids.iter().zip(&mut taken) {
            let began = Instant::now();
            field.ask("GET", &format!("/sandboxes/{id}"), Some(key), None)?;
            taken.push(began.elapsed());
        }
    }
    Ok(taken.map(|mut all| {
        all.sort_unstable();
        all[all.len() / 2]
    }))
}

fn unharmed(field: &Field<'_>, sandbox: &Sandbox, key: &str) -> Result<(), Fault> {
    hold!(sandbox.is_well(), "the sandbox does not answer any more");
    let status = field.api("GET", &format!("/sandboxes/{}", sandbox.id()))?.status;
    hold!(status == 200, "the sandbox's own team is answered {status}");
    hold!(field.api("GET", "/api-keys")?.text().contains(key), "the key is gone");
    Ok(())
}

pub(super) fn idempotency_key(field: &Field<'_>) -> Outcome {
    let stranger = stranger(field)?;
    let word = unique("attack-");
    let create = |key: &str| {
        let body = json!({"templateID": field.ground.template, "timeout": 30}).to_string();
        Request::new("POST", "/v2/sandboxes")
            .header("X-API-Key", key)
            .header("Idempotency-Key", &word)
            .body("application/json", body)
            .send(field.ground.address)
    };
    let (ours, theirs) = (create(&field.ground.key)?, create(stranger)?);
    let ids = [&ours, &theirs].map(|answer| field.taken(answer).map(|made| made.id().to_owned()));
    for (id, key) in ids.iter().zip([field.ground.key.as_str(), stranger]) {
        if let Ok(id) = id {
            field.ask("DELETE", &format!("/sandboxes/{id}"), Some(key), None)?;
        }
    }
    let [ours, theirs] = ids;
    hold!(ours? != theirs?, "one team got the sandbox of the other");
    Ok("each team got a sandbox of its own".into())
}

pub(super) fn revoked_key(field: &Field<'_>) -> Outcome {
    let body = json!({"name": "attack"});
    let made = field.ask("POST", "/api-keys", Some(&field.ground.key), Some(&body))?.json()?;
    let (Some(key), Some(id)) = (made["key"].as_str(), made["id"].as_str()) else {
        return Err(Fault::failed(format!("no key was made: {made}")));
    };
    let works = field.ask("GET", "/sandboxes", Some(key), None)?.status;
    field.api("DELETE", &format!("/api-keys/{id}"))?;
    hold!(works == 200, "a new key is answered {works}");
    field.rest(Duration::from_millis(1100))?;
    for path in ["/sandboxes", "/v2/sandboxes", "/api-keys", "/templates"] {
        let status = field.ask("GET", path, Some(key), None)?.status;
        hold!(status == 401, "{path} answers {status} to a revoked key");
    }
    Ok("401 after a second".into())
}

pub(super) fn named_internals(field: &Field<'_>) -> Outcome {
    let data_dir = field.ground.data_dir.to_string_lossy();
    let templates = [
        format!("{data_dir}/store/templates"),
        "../templates".into(),
        "/etc".into(),
        "host/../base".into(),
        "stranger/base".into(),
        "base:../..".into(),
        "\0".into(),
        "a".repeat(10_000),
        String::new(),
    ];
    let mut tried = 0;
    for template in &templates {
        let body = json!({"templateID": template, "timeout": 30});
        let answer = field.ask("POST", "/v2/sandboxes", Some(&field.ground.key), Some(&body))?;
        if let Ok(made) = field.taken(&answer) {
            field.kill(&made)?;
            return Err(Fault::broken(format!("the template {template:?} was obeyed")));
        }
        let shown = template.get(..40).unwrap_or(template);
        hold!(
            matches!(answer.status, 400 | 403 | 404 | 501),
            "template {shown:?}: {}",
            answer.status
        );
        hold!(
            !answer.text().contains(&*data_dir) || template.contains(&*data_dir),
            "{}",
            answer.text()
        );
        tried += 1;
    }
    let more = json!({
        "runtime": "/bin/sh", "kernel": "/boot/vmlinuz", "seccomp": "unconfined", "snapshotURL": "file:///etc",
        "privileged": true, "rootfs": "/", "uid": 0, "capabilities": ["ALL"], "binds": ["/:/host"],
    });
    let sandbox = match field.fresh_with(more) {
        Ok(sandbox) => sandbox,
        Err(_) => return Ok(format!("{tried} templates and a create with foreign fields refused")),
    };
    let said = sandbox.says(
        "grep -E '^(CapEff|Seccomp):' /proc/self/status; test -e /host && echo host",
        crate::attack::Who::Root,
    )?;
    hold!(said.contains("Seccomp:\t2") && !said.contains("host"), "a create was obeyed: {said}");
    hold!(!said.contains("ffffffff"), "capabilities were given: {said}");
    Ok(format!("{tried} templates refused, foreign fields mean nothing"))
}
