//! The agent's token, and links that stand in for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::{
    attack::{Outcome, Who, hold},
    field::Field,
    http::Answer,
    sandbox::{AGENT_PORT, Sandbox, quote},
};

pub(super) fn agent_token(field: &Field<'_>) -> Outcome {
    let (shared, neighbour) = (field.shared()?, field.neighbour()?);
    let token = shared.token();
    let wrong = [
        None,
        Some(String::new()),
        Some(token[..token.len() - 1].to_owned()),
        Some(format!("{token}0")),
        Some(token.to_uppercase()),
        Some(neighbour.token().to_owned()),
        Some(field.ground.key.clone()),
    ];
    let routes = [
        ("POST", "/process.Process/List"),
        ("POST", "/process.Process/Start"),
        ("POST", "/filesystem.Filesystem/ListDir"),
        ("POST", "/init"),
        ("GET", "/envs"),
        ("GET", "/metrics"),
        ("GET", "/files?path=/etc/passwd"),
        ("POST", "/files?path=/tmp/x"),
        ("GET", "/soulbox/logs"),
    ];
    let mut asked = 0;
    for given in &wrong {
        for (method, target) in routes {
            let mut request = shared.to_port(method, target, AGENT_PORT);
            if let Some(given) = given {
                request = request.header("X-Access-Token", given);
            }
            if method == "POST" {
                request = request.body("application/json", "{}");
            }
            let answer = shared.send(request)?;
            // What is the server's alone is not there for clients.
            let refused = matches!(answer.status, 401 | 403 | 404);
            hold!(refused, "{method} {target} with {given:?}: {} {}", answer.status, answer.text());
            hold!(!answer.text().contains(token), "{method} {target} shows the token");
            asked += 1;
        }
    }
    let private = [("POST", "/init"), ("GET", "/soulbox/logs")];
    for (method, target) in private {
        let status =
            shared.send(shared.to_agent(method, target).body("application/json", "{}"))?.status;
        hold!(matches!(status, 401 | 403 | 404 | 405), "{target} answers {status} to a client");
    }
    Ok(format!("{asked} requests answered 401, 403 or 404"))
}

/// The parts of a link, each of which an attacker may change.
#[derive(Clone)]
struct Link {
    path: String,
    user: Option<String>,
    expires: Option<String>,
    signature: Option<String>,
    /// What stands behind all of it.
    more: &'static str,
}

impl Link {
    fn target(&self) -> String {
        let mut target = format!("/files?path={}", quote(&self.path));
        for (name, value) in [
            ("username", &self.user),
            ("signature", &self.signature),
            ("signature_expiration", &self.expires),
        ] {
            if let Some(value) = value {
                target += &format!("&{name}={}", quote(value));
            }
        }
        target + self.more
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// As clients make it.
fn signed(token: &str, operation: &str, seconds: u64) -> Link {
    let (path, user, expires) = ("/home/user/signed", "user", (now() + seconds).to_string());
    let text = format!("{path}:{operation}:{user}:{token}:{expires}");
    let signature = format!("v1_{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(text)));
    Link {
        path: path.into(),
        user: Some(user.into()),
        expires: Some(expires),
        signature: Some(signature),
        more: "",
    }
}

fn follow(sandbox: &Sandbox, method: &str, link: &Link) -> std::io::Result<Answer> {
    let request = sandbox.to_port(method, link.target(), AGENT_PORT);
    sandbox.send(if method == "POST" {
        request.body("application/octet-stream", "changed")
    } else {
        request
    })
}

fn changed(good: &Link) -> Vec<(&'static str, Link)> {
    let with = |change: &dyn Fn(&mut Link)| {
        let mut link = good.clone();
        change(&mut link);
        link
    };
    let signature = good.signature.clone().unwrap_or_default();
    vec![
        ("another path", with(&|l| l.path = "/etc/passwd".into())),
        ("a path with dots", with(&|l| l.path += "/../other")),
        ("another spelling of the path", with(&|l| l.path.insert(0, '/'))),
        ("a path encoded twice", with(&|l| l.path = l.path.replace('/', "%2F"))),
        ("another user", with(&|l| l.user = Some("root".into()))),
        ("no user", with(&|l| l.user = None)),
        ("a user and a blank", with(&|l| l.user = Some("user ".into()))),
        ("a later time", with(&|l| l.expires = Some((now() + 10_000_000).to_string()))),
        ("no time", with(&|l| l.expires = None)),
        ("no signature", with(&|l| l.signature = None)),
        ("an empty signature", with(&|l| l.signature = Some(String::new()))),
        ("a cut signature", with(&|l| l.signature = Some(signature[..signature.len() - 1].into()))),
        ("another version", with(&|l| l.signature = Some(format!("v2_{}", &signature[3..])))),
        ("moved colons", with(&|l| (l.path += ":read", l.user = Some(String::new())).0)),
    ]
}

pub(super) fn signed_links(field: &Field<'_>) -> Outcome {
    let (shared, neighbour) = (field.shared()?, field.neighbour()?);
    shared.write("/home/user/signed", b"content", Who::User)?;
    neighbour.write("/home/user/signed", b"of the neighbour", Who::User)?;
    let good = signed(shared.token(), "read", 60);
    let answer = follow(&shared, "GET", &good)?;
    hold!(answer.text() == "content", "the link itself: {} {}", answer.status, answer.text());
    let all = changed(&good);
    for (what, link) in &all {
        let status = follow(&shared, "GET", link)?.status;
        hold!(status == 401, "{what}: {status}");
    }
    hold!(follow(&shared, "POST", &good)?.status == 401, "a link for reading writes");
    hold!(follow(&neighbour, "GET", &good)?.status == 401, "the link opens the neighbour's file");
    let wrong = shared.to_port("GET", good.target(), AGENT_PORT).header("X-Access-Token", "wrong");
    hold!(shared.send(wrong)?.status == 401, "a link outweighs a wrong token");
    // What is named twice counts once, for the signature and for the file alike.
    for more in ["&path=/etc/passwd", "&username=root", "&signature=v1_x"] {
        let answer = follow(&shared, "GET", &Link { more, ..good.clone() })?;
        let harmless = matches!(answer.status, 400 | 401) || answer.text() == "content";
        hold!(harmless, "{more}: {} {}", answer.status, answer.text());
    }
    let upload = signed(shared.token(), "write", 60);
    hold!(follow(&shared, "GET", &upload)?.status == 401, "a link for writing reads");
    let short = signed(shared.token(), "read", 0);
    field.rest(Duration::from_millis(1200))?;
    hold!(follow(&shared, "GET", &short)?.status == 401, "a link outlives its time");
    let still = shared.read("/home/user/signed", Who::User)?.text();
    hold!(still == "content", "the file changed: {still}");
    Ok(format!("{} changed links and 7 other uses answered 401", all.len()))
}
