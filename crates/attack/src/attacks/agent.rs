//! What the agent and the gateway parse: Connect messages, terminals, requests, hostile answers.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use flate2::{Compress, Compression, FlushCompress};
use serde_json::{Value, json};

use crate::{
    agent::frame,
    attack::{Attack, Fault, Group::Agent, How, Outcome, Who, hold},
    field::{Field, unique},
    host,
    http::Request,
    sandbox::{AGENT_PORT, Launch, Sandbox},
};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        id: "agent-messages",
        group: Agent,
        title: "length prefixes that lie, gzip bombs, unknown codecs, deep nesting, headers without end",
        defence: "sizes bounded before anything is read; no decompression; typed errors",
        remains: "",
        how: How::Once(messages),
    },
    Attack {
        id: "agent-terminals",
        group: Agent,
        title: "terminals of 0 × 0 and 65535 × 65535, escape sequences, a binary paste",
        defence: "sizes are checked or cut; what a terminal says is bytes",
        remains: "",
        how: How::Each(terminals),
    },
    Attack {
        id: "agent-foreign-processes",
        group: Agent,
        title: "input, signals and sizes for processes that the API did not start, PID 1 among them",
        defence: "only what the API started is in the agent's table",
        remains: "",
        how: How::Once(foreign_processes),
    },
    Attack {
        id: "agent-hostile-answers",
        group: Agent,
        title: "a server inside that breaks every rule of HTTP",
        defence: "the gateway parses answers strictly, bounds heads, and answers 502",
        remains: "",
        how: How::Once(hostile_answers),
    },
    Attack {
        id: "agent-smuggled-requests",
        group: Agent,
        title: "CL.TE, TE.CL, two lengths, bare CR and folded headers, to smuggle a request past the gateway",
        defence: "ambiguous framing is 400; what passes is framed anew",
        remains: "",
        how: How::Once(smuggled_requests),
    },
    Attack {
        id: "agent-slow-clients",
        group: Agent,
        title: "300 connections that send a byte and wait, 1 MiB of headers, a body that never comes",
        defence: "heads are bounded in size and time; each connection is a task, not a thread",
        remains: "",
        how: How::Once(slow_clients),
    },
    Attack {
        id: "agent-server-rights",
        group: Agent,
        title: "what a child of the server would inherit, and what a server that was taken over could do",
        defence: "every descriptor closes on exec; modules, raw I/O, clock, power and BPF are given up at the start",
        remains: "the server keeps what makes namespaces, mounts and cgroups",
        how: How::Once(server_rights),
    },
];

const JSON: &str = "application/json";
const PROTO: &str = "application/proto";
const STREAM: &str = "application/connect+json";
const LIST: &str = "/filesystem.Filesystem/ListDir";
const START: &str = "/process.Process/Start";

struct Case {
    path: String,
    kind: &'static str,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

fn case(path: &str, kind: &'static str, body: impl Into<Vec<u8>>) -> Case {
    Case { path: path.to_owned(), kind, body: body.into(), headers: Vec::new() }
}

impl Case {
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// 200 MiB of one letter in a JSON string, compressed: one MiB that stands by itself, repeated. What
/// decompresses it sees all of it before the checksum, which is wrong.
fn bomb() -> std::io::Result<Vec<u8>> {
    let mut deflate = Compress::new(Compression::fast(), false);
    let mut piece = |content: &[u8]| {
        let mut out = Vec::with_capacity(content.len() + 1024);
        deflate.compress_vec(content, &mut out, FlushCompress::Full).map(|_| out)
    };
    let start = piece(br#"{"path":""#).map_err(std::io::Error::other)?;
    let letters = piece(&vec![b'a'; 1 << 20]).map_err(std::io::Error::other)?;
    let end = piece(br#""}"#).map_err(std::io::Error::other)?;
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let last = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    Ok([&header[..], &start, &letters.repeat(200), &end, &last].concat())
}

fn cases() -> std::io::Result<Vec<Case>> {
    let start = br#"{"process":{"cmd":"true"}}"#;
    let whole = start.len() as u32;
    let bomb = bomb()?;
    let encoding = "Connect-Content-Encoding";
    let mut many = case(LIST, JSON, "{}");
    many.headers = (0..500).map(|n| (format!("X-{n}"), "v".repeat(200))).collect();
    Ok(vec![
        case(START, STREAM, frame(0, u32::MAX, b"{}")),
        case(START, STREAM, frame(0, 0x7fff_ffff, start)),
        case(START, STREAM, frame(0xff, whole, start)),
        case(START, STREAM, frame(2, whole, start)),
        case(START, STREAM, frame(1, bomb.len() as u32, &bomb)).with(encoding, "gzip"),
        case(START, STREAM, frame(1, 4, b"\x1f\x8b\x08\x00")).with(encoding, "gzip"),
        case(START, STREAM, frame(0, 0, b"").repeat(2000)),
        case(START, STREAM, [0]),
        case(START, STREAM, []),
        case(
            START,
            "application/connect+proto",
            frame(0, 12, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"),
        ),
        case(LIST, JSON, bomb).with("Content-Encoding", "gzip"),
        case(LIST, JSON, "[".repeat(100_000)),
        case(LIST, JSON, format!(r#"{{"path":{}"#, r#"{"a":"#.repeat(50_000))),
        case(LIST, JSON, r#"{"path":"/","depth":4294967296}"#),
        case(LIST, JSON, r#"{"path":"/","depth":-1}"#),
        case(LIST, JSON, r#"{"path":"/","depth":1e999}"#),
        case(LIST, JSON, [0xff, 0xfe]),
        case(LIST, PROTO, b"\x0a\xff\xff\xff\xff\x0f"),
        case(LIST, PROTO, [0x0b].repeat(5000)),
        case(LIST, "application/xml", "<a/>"),
        case(LIST, JSON, "{}").with("Content-Encoding", "br"),
        case(LIST, JSON, "{}").with("Connect-Timeout-Ms", "99999999999999999999"),
        case(LIST, JSON, "{}").with("Connect-Timeout-Ms", "-1"),
        case(LIST, JSON, "{}").with("Connect-Protocol-Version", "9"),
        case(LIST, JSON, "{}").with("Authorization", format!("Basic {}", "A".repeat(6000))),
        many,
        case("/process.Process/NoSuch", JSON, "{}"),
        case(&format!("/{}", "a".repeat(20_000)), JSON, "{}"),
    ])
}

fn messages(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let (agent, server) = (host::agent_of(&shared)?, field.ground.server);
    let before = (host::resident_mib(agent), host::resident_mib(server));
    let cases = cases()?;
    let count = cases.len();
    for Case { path, kind, body, headers } in cases {
        field.check()?;
        let shown =
            format!("{} {kind} {:?}", &path[..path.len().min(40)], body.get(..30.min(body.len())));
        let mut request = shared.to_agent("POST", path).body(kind, body);
        for (name, value) in headers {
            request = request.header(&name, value);
        }
        // A connection that is closed is an answer too.
        let Ok(answer) = shared.send(request.timeout(Duration::from_secs(20))) else { continue };
        let text = answer.text();
        hold!(answer.status != 500, "{shown}: 500 {text}");
        hold!(answer.body.len() < 1 << 20, "{shown}: {} bytes", answer.body.len());
        hold!(!text.contains("panicked"), "{shown}: {text}");
    }
    hold!(shared.is_well(), "the sandbox does not answer any more");
    hold!(host::agent_of(&shared)? == agent, "the agent is another process");
    let after = (host::resident_mib(agent), host::resident_mib(server));
    hold!(after.0 < before.0 + 64, "the agent grew from {} to {} MiB", before.0, after.0);
    hold!(after.1 < before.1 + 64, "the server grew from {} to {} MiB", before.1, after.1);
    Ok(format!("{count} messages, none answered 500, memory flat"))
}

fn terminals(field: &Field<'_>, who: Who) -> Outcome {
    let shared = field.shared()?;
    let mut opened = 0;
    for (rows, cols) in [(0, 0), (65535, 65535), (0xffff_ffff, 0xffff_ffff), (1, 70000)] {
        let launch = Launch { terminal: Some((rows, cols)), ..Launch::new("/bin/sh", &[], who) };
        // Refused is as good as it gets.
        let Ok(terminal) = shared.start(&launch) else { continue };
        opened += 1;
        let process = json!({"pid": terminal.pid});
        for (rows, cols) in [(0, 0), (65535, 65535), (0xffff_ffff_u64, 1)] {
            let size = json!({"process": process, "pty": {"size": {"rows": rows, "cols": cols}}});
            refused_or_done(&shared, "Update", &size)?;
        }
        let escapes = "\x03\x03\nprintf '\\033[?1049h\\033]0;%s\\007\\033[99999999999999999;1H'\n";
        let bytes: Vec<u8> = (0..=255).collect();
        for paste in [bytes.repeat(16), escapes.repeat(20).into_bytes()] {
            use base64::{Engine as _, prelude::BASE64_STANDARD};
            let input =
                json!({"process": process, "input": {"pty": BASE64_STANDARD.encode(paste)}});
            refused_or_done(&shared, "SendInput", &input)?;
        }
        let kill = json!({"process": process, "signal": "SIGNAL_SIGKILL"});
        refused_or_done(&shared, "SendSignal", &kill)?;
        terminal.leave();
    }
    hold!(shared.is_well(), "the sandbox does not answer any more");
    Ok(format!("{opened} terminals opened, resized and killed"))
}

fn refused_or_done(shared: &Sandbox, method: &str, message: &Value) -> Result<(), Fault> {
    let answer = shared.call(&format!("/process.Process/{method}"), message)?;
    hold!(answer.status < 500, "{method}: {} {}", answer.status, answer.text());
    Ok(())
}

fn foreign_processes(field: &Field<'_>) -> Outcome {
    let shared = field.shared()?;
    let others =
        shared.start(&Launch::new("/bin/sh", &["-c", "sleep 30 & echo $!; wait"], Who::Root))?;
    let child = others.pid + 1;
    let mut tried = 0;
    for pid in [0, 1, child, 0xffff_ffff, 4_194_304] {
        let process = json!({"pid": pid});
        for (method, message) in [
            ("SendSignal", json!({"process": process, "signal": "SIGNAL_SIGKILL"})),
            ("SendInput", json!({"process": process, "input": {"stdin": "QQ=="}})),
            ("Update", json!({"process": process, "pty": {"size": {"rows": 1, "cols": 1}}})),
            ("CloseStdin", json!({"process": process})),
        ] {
            let answer = shared.call(&format!("/process.Process/{method}"), &message)?;
            let refused = matches!(answer.status, 400 | 404);
            hold!(refused, "{method} {pid}: {} {}", answer.status, answer.text());
            tried += 1;
        }
    }
    let kill = json!({"process": {"pid": others.pid}, "signal": "SIGNAL_SIGKILL"});
    refused_or_done(&shared, "SendSignal", &kill)?;
    others.leave();
    hold!(shared.is_well(), "the sandbox does not answer any more");
    Ok(format!("{tried} requests answered 400 or 404"))
}

fn hostile_answers(field: &Field<'_>) -> Outcome {
    let (sandbox, server) = (field.fresh()?, field.ground.server);
    let before = host::resident_mib(server);
    let program = include_str!("../../programs/hostile_server.py");
    let limit = Duration::from_secs(120);
    sandbox.launch(program, &["/tmp/ready"], Who::User, limit)?.leave();
    sandbox.await_file("/tmp/ready", Duration::from_secs(10))?;
    let mut codes = Vec::new();
    for _ in 0..22 {
        field.check()?;
        let request = sandbox.to_port("GET", "/", 9090).timeout(Duration::from_secs(3));
        match sandbox.send(request) {
            Ok(answer) => {
                let cookie = answer.header("set-cookie").unwrap_or_default();
                hold!(!cookie.contains("evil"), "a bare CR made a header");
                codes.push(answer.status.to_string());
            }
            Err(error) => codes.push(error.kind().to_string()),
        }
    }
    hold!(codes.iter().any(|code| code == "502"), "no answer was refused: {codes:?}");
    hold!(sandbox.is_well(), "the sandbox does not answer any more");
    let after = host::resident_mib(server);
    hold!(after < before + 64, "the server grew from {before} to {after} MiB: {codes:?}");
    Ok(format!("{} answered 502 or passed on, memory flat", codes.len()))
}

fn smuggled_requests(field: &Field<'_>) -> Outcome {
    let sandbox = field.fresh()?;
    let program = include_str!("../../programs/counting_server.py");
    let arguments = ["/tmp/seen", "/tmp/ready"];
    sandbox.launch(program, &arguments, Who::User, Duration::from_secs(120))?.leave();
    sandbox.await_file("/tmp/ready", Duration::from_secs(10))?;
    let hidden = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = hidden.len() + 5;
    let requests = [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
        format!("Content-Length: {}\r\nTransfer-Encoding: xchunked\r\n\r\n{hidden}", hidden.len()),
        format!(
            "Content-Length: {}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}",
            length
        ),
        format!(
            "Content-Length: {length}\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "Content-Length: {length}\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("Content-Length: +{}\r\n\r\n{hidden}", hidden.len()),
        "Content-Length: 0\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n0;a\r\n\r\n".to_owned(),
    ];
    for (at, rest) in requests.iter().enumerate() {
        let head = format!(
            "POST /outer-{at} HTTP/1.1\r\nHost: {}\r\nE2b-Sandbox-Id: {}\r\nE2b-Sandbox-Port: 9091\r\nConnection: close\r\n",
            field.ground.address,
            sandbox.id()
        );
        let mut stream = TcpStream::connect(field.ground.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // The gateway may close before it has read everything.
        let _ = stream.write_all(format!("{head}{rest}").as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let seen = sandbox.says("cat /tmp/seen", Who::User)?;
    hold!(!seen.contains("/smuggled"), "the server inside saw a smuggled request:\n{seen}");
    let passed = seen.lines().count();
    hold!(passed <= requests.len(), "{passed} requests were seen of {}", requests.len());
    Ok(format!("{} requests, {passed} passed on, none smuggled", requests.len()))
}

fn slow_clients(field: &Field<'_>) -> Outcome {
    const CLIENTS: usize = 300;
    let (shared, server) = (field.shared()?, field.ground.server);
    let before = host::resident_mib(server);
    let mut held = Vec::new();
    for at in 0..CLIENTS {
        let mut stream = TcpStream::connect(field.ground.address)?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let head = match at % 3 {
            0 => "G".to_owned(),
            1 => format!("GET /{} HTTP/1.1\r\nHost: x\r\n", unique("")),
            _ => format!(
                "POST {START} HTTP/1.1\r\nHost: x\r\nE2b-Sandbox-Id: {}\r\nE2b-Sandbox-Port: {AGENT_PORT}\r\n\
                 X-Access-Token: {}\r\nContent-Type: {STREAM}\r\nContent-Length: 1000000\r\n\r\n",
                shared.id(),
                shared.token()
            ),
        };
        stream.write_all(head.as_bytes())?;
        held.push(stream);
    }
    let mut large = Request::new("GET", "/health");
    for at in 0..64 {
        large = large.header(&format!("X-{at}"), vec![b'a'; 16 << 10]);
    }
    // Refused or closed, not obeyed at any length.
    if let Ok(answer) = large.send(field.ground.address) {
        hold!(answer.status >= 400, "1 MiB of headers is answered {}", answer.status);
    }
    let mut taken = Vec::new();
    for _ in 0..11 {
        let began = Instant::now();
        field.api("GET", "/health")?;
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    let usual = taken[taken.len() / 2];
    hold!(usual < Duration::from_secs(1), "the API takes {usual:?} beside them");
    field.neighbour_answers(Duration::from_secs(5))?;
    let grown = host::resident_mib(server).saturating_sub(before);
    hold!(grown < 64, "the server grew by {grown} MiB");
    drop(held);
    Ok(format!("beside {CLIENTS} of them the API answers within {} ms", usual.as_millis()))
}

fn server_rights(field: &Field<'_>) -> Outcome {
    const CLOSE_ON_EXEC: u64 = 0o2_000_000;
    let server = field.ground.server;
    field.shared()?;
    let mut descriptors = 0;
    for entry in std::fs::read_dir(format!("/proc/{server}/fdinfo"))?.flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        let text = host::text(entry.path());
        // Gone meanwhile.
        let Some(flags) = text.lines().find_map(|line| line.strip_prefix("flags:")) else {
            continue;
        };
        let flags = u64::from_str_radix(flags.trim(), 8).unwrap_or(0);
        descriptors += 1;
        if !matches!(&*number, "0" | "1" | "2") {
            let leads = host::link(server, &format!("fd/{number}")).unwrap_or_default();
            hold!(flags & CLOSE_ON_EXEC != 0, "descriptor {number} ({leads}) outlives an exec");
        }
    }
    hold!(descriptors > 3, "only {descriptors} descriptors are seen");
    let status = host::status(server);
    let mask = |name: &str| {
        let text = status.get(name).map(String::as_str).unwrap_or_default();
        u64::from_str_radix(text, 16).unwrap_or(u64::MAX)
    };
    // sys_module, sys_rawio, sys_pacct, sys_boot, sys_time, mac_*, syslog, perfmon, bpf.
    let given_up = [16, 17, 20, 22, 25, 32, 33, 34, 38, 39];
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        let held: Vec<_> = given_up.iter().filter(|bit| mask(name) >> **bit & 1 == 1).collect();
        hold!(held.is_empty(), "{name} of the server has {held:?}");
    }
    Ok(format!(
        "{descriptors} descriptors close on exec; {} capabilities are left",
        mask("CapEff").count_ones()
    ))
}
