//! What must not be seen: tokens, keys, what other clients wrote.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    attack::{Fault, Outcome, Who, hold},
    field::{Field, unique},
    host,
    http::Request,
};

/// The server's log, if its standard error is a file.
fn server_log(field: &Field<'_>) -> Option<String> {
    let path = PathBuf::from(host::link(field.ground.server, "fd/2")?);
    path.is_file().then(|| host::text(path))
}

pub(super) fn listeners(field: &Field<'_>) -> Outcome {
    let server = field.ground.server;
    let descriptors = std::fs::read_dir(format!("/proc/{server}/fd"))?.flatten();
    let sockets: BTreeSet<String> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let name = link.to_string_lossy().into_owned();
            Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let mut listening = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        // Of the server's network namespace.
        for line in host::text(format!("/proc/{server}/net/{table}")).lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            if *state == "0A" && sockets.contains(*inode) {
                let port =
                    local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
                listening.extend(port);
            }
        }
    }
    let expected = BTreeSet::from([field.ground.address.port()]);
    hold!(listening == expected, "the server listens on {listening:?}");
    let data_dir = &field.ground.data_dir;
    let secret = |name: &str, mode: u32| -> Result<(), Fault> {
        let Ok(about) = std::fs::metadata(data_dir.join(name)) else { return Ok(()) };
        hold!(about.mode() & 0o777 == mode, "{name} has mode {:o}", about.mode() & 0o777);
        hold!(about.uid() == 0, "{name} belongs to {}", about.uid());
        Ok(())
    };
    for name in ["api-key", "secret.key", "soulbox.db", "soulbox.db-wal"] {
        secret(name, 0o600)?;
    }
    for name in ["sockets", "run"] {
        secret(name, 0o700)?;
    }
    let own = std::fs::metadata(data_dir)?.mode() & 0o022;
    hold!(own == 0, "others may write to {}", data_dir.display());
    Ok("one listener; secrets are root's alone".into())
}

pub(super) fn line_breaks(field: &Field<'_>) -> Outcome {
    let mark = unique("mark");
    let evil = format!("a\r\nX-Evil: {mark}\r\n\x1b[2J\x1b]0;{mark}\x07<script>{mark}</script>");
    let key = format!("k\n{mark}");
    let sandbox = field
        .fresh_with(json!({"metadata": {"evil": evil, key: "v"}, "envVars": {"EVIL": evil}}))?;
    let answer = field.api("GET", &format!("/sandboxes/{}", sandbox.id()))?;
    hold!(
        answer.json()?["metadata"]["evil"] == evil.as_str(),
        "metadata changed: {}",
        answer.text()
    );
    hold!(answer.header("x-evil").is_none(), "metadata became a header");
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    hold!(kind.starts_with("application/json"), "metadata is served as {kind}");
    let inside = sandbox.shell("printf %s \"$EVIL\"", Who::User)?.stdout;
    hold!(inside == evil, "the environment changed: {inside:?}");
    let agent = format!("\x1b[2J{mark}");
    let request = Request::new("GET", format!("/%0d%0aX-Evil:%20{mark}"))
        .header("X-API-Key", &field.ground.key)
        .header("User-Agent", agent);
    let answer = request.send(field.ground.address)?;
    hold!(answer.header("x-evil").is_none(), "a path became a header");
    let line = format!("printf '\\033[2J{mark}\\r\\n2026-01-01T00:00:00Z  WARN forged\\n'; true");
    sandbox.shell(&line, Who::User)?;
    let Some(log) = server_log(field) else {
        return Ok("unchanged and in no header; the server's log is no file".into());
    };
    let wrong = log
        .lines()
        .find(|line| line.contains(&mark) && (line.contains('\x1b') || line.starts_with("X-Evil")));
    hold!(wrong.is_none(), "the log holds {wrong:?}");
    hold!(!log.lines().any(|line| line.ends_with("WARN forged")), "a line of the log is forged");
    Ok("unchanged, in no header, and in no line of the log".into())
}

pub(super) fn inside(field: &Field<'_>) -> Outcome {
    let (shared, key) = (field.shared()?, &field.ground.key);
    let token = shared.token();
    hold!(token.len() > 20, "the token is short");
    // In halves, so that the program itself is not found.
    let (a, b) = token.split_at(token.len() / 2);
    let (c, d) = key.split_at(key.len() / 2);
    let program = include_str!("../../../programs/secrets.py");
    let found = shared.finds(program, &[a, b, c, d], Who::Root)?;
    hold!(found["found"] == json!([]), "found in {}", found["found"]);
    let names = found["environment"].to_string();
    hold!(
        !names.contains("E2B_API_KEY") && !names.contains("ACCESS_TOKEN"),
        "environment: {names}"
    );
    if let Some(log) = server_log(field) {
        hold!(!log.contains(token) && !log.contains(key), "the server's log holds a secret");
    }
    for path in ["/sandboxes", "/v2/sandboxes"] {
        let logs = field.api("GET", &format!("{path}/{}/logs", shared.id()))?.text();
        hold!(!logs.contains(token) && !logs.contains(key), "the sandbox's logs hold a secret");
    }
    let server =
        host::text(Path::new("/proc").join(field.ground.server.to_string()).join("cmdline"));
    hold!(!server.contains(key), "the server's command line holds a key");
    Ok("in no process, file or log".into())
}

pub(super) fn randomness(field: &Field<'_>) -> Outcome {
    let (first, second) = (field.fresh()?, field.fresh()?);
    hold!(first.token() != second.token(), "two sandboxes have one token");
    hold!(first.id() != second.id(), "two sandboxes have one id");
    let lines = [
        "head -c 16 /dev/urandom | md5sum",
        "cat /proc/sys/kernel/random/uuid",
        "cat /proc/sys/kernel/random/boot_id",
        "cat /etc/machine-id",
        "python3 -c 'import random; print(random.random())'",
        "cat /proc/self/stat | cut -d' ' -f26-30",
    ];
    for line in lines {
        let (one, other) = (first.says(line, Who::User)?, second.says(line, Who::User)?);
        hold!(one != other && !one.is_empty(), "`{line}` says {one} in both");
    }
    Ok(format!("{} sources differ", lines.len()))
}
