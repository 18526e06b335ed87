//! A sandbox as its attacker holds it: commands, programs, files, and its API by hand.

use std::{
    io::{self, Read},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    agent::{Frames, envelope},
    attack::{Fault, Who},
    http::{Answer, Request},
};

/// Before what a program of `programs/` says.
const PRELUDE: &str = include_str!("../programs/prelude.py");
/// How long a command may take unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of the output that is kept.
const MAX_OUTPUT: usize = 16 << 20;

/// A live sandbox. Clones mean the same one.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox(Arc<Known>);

#[derive(Debug)]
struct Known {
    id: String,
    token: String,
    address: SocketAddr,
}

/// What a command said, and how it ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    /// The exit code, or -1 for a signal.
    pub(crate) code: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The agent's words, such as `signal: killed`.
    pub(crate) status: String,
}

impl Output {
    /// Standard output without the blanks around it.
    pub(crate) fn said(&self) -> &str {
        self.stdout.trim()
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Launch<'a> {
    pub(crate) command: &'a str,
    pub(crate) arguments: Vec<&'a str>,
    pub(crate) who: Who,
    pub(crate) cwd: Option<&'a str>,
    /// Rows and columns of a terminal instead of pipes.
    pub(crate) terminal: Option<(u64, u64)>,
    /// The agent kills it afterwards.
    pub(crate) limit: Duration,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(command: &'a str, arguments: &[&'a str], who: Who) -> Self {
        let arguments = arguments.to_vec();
        Self { command, arguments, who, cwd: None, terminal: None, limit: PATIENCE }
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: u64,
    frames: Frames,
    deadline: Instant,
}

impl Sandbox {
    pub(crate) fn new(id: String, token: String, address: SocketAddr) -> Self {
        Self(Arc::new(Known { id, token, address }))
    }

    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn token(&self) -> &str {
        &self.0.token
    }

    /// A request to a port of the sandbox, without the token.
    pub(crate) fn to_port(&self, method: &str, target: impl AsRef<[u8]>, port: u16) -> Request {
        Request::new(method, target)
            .header("E2b-Sandbox-Id", &self.0.id)
            .header("E2b-Sandbox-Port", port.to_string())
    }

    /// A request to the agent, with the token.
    pub(crate) fn to_agent(&self, method: &str, target: impl AsRef<[u8]>) -> Request {
        self.to_port(method, target, AGENT_PORT).header("X-Access-Token", &self.0.token)
    }

    pub(crate) fn send(&self, request: Request) -> io::Result<Answer> {
        request.send(self.0.address)
    }

    /// One unary call of the agent.
    pub(crate) fn call(&self, path: &str, message: &Value) -> io::Result<Answer> {
        let body = message.to_string().into_bytes();
        self.send(self.to_agent("POST", path).body("application/json", body))
    }

    /// Starts a command and waits until it runs.
    pub(crate) fn start(&self, launch: &Launch<'_>) -> Result<Running, Fault> {
        let mut message = json!({
            "process": {"cmd": launch.command, "args": launch.arguments, "envs": {}},
            "stdin": false,
        });
        if let Some(cwd) = launch.cwd {
            message["process"]["cwd"] = cwd.into();
        }
        if let Some((rows, cols)) = launch.terminal {
            message["pty"] = json!({"size": {"rows": rows, "cols": cols}});
        }
        let who = BASE64_STANDARD.encode(format!("{}:", launch.who.name()));
        let request = self
            .to_agent("POST", "/process.Process/Start")
            .header("Connect-Protocol-Version", "1")
            .header("Connect-Timeout-Ms", launch.limit.as_millis().to_string())
            .header("Authorization", format!("Basic {who}"))
            .body("application/connect+json", envelope(&message))
            .timeout(PATIENCE);
        let (answer, mut body) = request.open(self.0.address)?;
        if answer.status != 200 {
            let mut text = String::new();
            // An error that cannot be read is told by its status.
            let _ = body.by_ref().take(4096).read_to_string(&mut text);
            return Err(Fault::failed(format!("starting a command: {} {text}", answer.status)));
        }
        let mut frames = Frames::new(body);
        let first = frames.next(PATIENCE)?;
        let pid = first.as_ref().and_then(|event| event["event"]["start"]["pid"].as_u64());
        match pid {
            Some(pid) => Ok(Running { pid, frames, deadline: Instant::now() + launch.limit }),
            None => Err(Fault::failed(format!("the command did not start: {first:?}"))),
        }
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, launch: &Launch<'_>) -> Result<Output, Fault> {
        self.start(launch)?.wait()
    }

    /// What a line of shell says; however it ends.
    pub(crate) fn shell(&self, line: &str, who: Who) -> Result<Output, Fault> {
        self.run(&Launch::new("/bin/sh", &["-c", line], who))
    }

    /// Standard output of a line of shell.
    pub(crate) fn says(&self, line: &str, who: Who) -> Result<String, Fault> {
        self.shell(line, who).map(|output| output.said().to_owned())
    }

    /// Runs a hostile program to its end, within `limit`.
    pub(crate) fn python_within(
        &self,
        program: &str,
        arguments: &[&str],
        who: Who,
        limit: Duration,
    ) -> Result<Output, Fault> {
        let source = format!("{PRELUDE}{program}");
        let mut all = vec!["-c", &source];
        all.extend(arguments);
        self.run(&Launch { limit, ..Launch::new("python3", &all, who) })
    }

    /// What a hostile program says. One that fails of itself attacks nothing.
    pub(crate) fn python(
        &self,
        program: &str,
        arguments: &[&str],
        who: Who,
    ) -> Result<String, Fault> {
        let output = self.python_within(program, arguments, who, PATIENCE)?;
        if output.code != 0 {
            let end = output.stderr.trim().lines().last().unwrap_or_default();
            return Err(Fault::failed(format!(
                "the program inside ended with {} ({}): {end}",
                output.code, output.status
            )));
        }
        Ok(output.said().to_owned())
    }

    /// What a hostile program says, which is one JSON value.
    pub(crate) fn finds(
        &self,
        program: &str,
        arguments: &[&str],
        who: Who,
    ) -> Result<Value, Fault> {
        let said = self.python(program, arguments, who)?;
        let last = said.lines().last().unwrap_or_default();
        serde_json::from_str(last).map_err(|_| Fault::failed(format!("the program said `{said}`")))
    }

    /// Starts a hostile program; it is killed after `limit`.
    pub(crate) fn launch(
        &self,
        program: &str,
        arguments: &[&str],
        who: Who,
        limit: Duration,
    ) -> Result<Running, Fault> {
        let source = format!("{PRELUDE}{program}");
        let mut all = vec!["-c", &source];
        all.extend(arguments);
        self.start(&Launch { limit, ..Launch::new("python3", &all, who) })
    }

    pub(crate) fn write(&self, path: &str, content: &[u8], who: Who) -> io::Result<Answer> {
        let target = format!("/files?path={}&username={}", quote(path), who.name());
        self.send(self.to_agent("POST", target).body("application/octet-stream", content))
    }

    pub(crate) fn read(&self, path: &str, who: Who) -> io::Result<Answer> {
        let target = format!("/files?path={}&username={}", quote(path), who.name());
        self.send(self.to_agent("GET", target))
    }

    /// Whether it still runs commands.
    pub(crate) fn is_well(&self) -> bool {
        let launch = Launch {
            limit: Duration::from_secs(20),
            ..Launch::new("/bin/sh", &["-c", "echo well"], Who::User)
        };
        self.run(&launch).is_ok_and(|output| output.said() == "well")
    }

    /// Waits until a file is there that a program inside makes when it is ready.
    pub(crate) fn await_file(&self, path: &str, within: Duration) -> Result<(), Fault> {
        let deadline = Instant::now() + within;
        let line = format!("test -e {path}");
        while self.shell(&line, Who::Root)?.code != 0 {
            if Instant::now() > deadline {
                return Err(Fault::failed(format!("{path} did not appear within {within:?}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

pub(crate) const AGENT_PORT: u16 = 49983;

impl Running {
    /// Reads to the end of the command.
    pub(crate) fn wait(mut self) -> Result<Output, Fault> {
        let mut output = Output { code: i64::MIN, ..Output::default() };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        // The agent ends it at its limit; this is for an agent that does not.
        let end = self.deadline + Duration::from_secs(10);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::failed("a command outlives its limit"));
            }
            let Some(message) = self.frames.next(left)? else { break };
            let event = &message["event"];
            for (name, into) in [("stdout", &mut stdout), ("stderr", &mut stderr)] {
                if let Some(text) = event["data"][name].as_str()
                    && let Ok(bytes) = BASE64_STANDARD.decode(text)
                    && into.len() + bytes.len() <= MAX_OUTPUT
                {
                    into.extend(bytes);
                }
            }
            if let Some(end) = event.get("end") {
                output.code = end["exitCode"].as_i64().unwrap_or(0);
                output.status = end["status"].as_str().unwrap_or_default().to_owned();
            }
        }
        if output.code == i64::MIN {
            let why = self.frames.ended_with().unwrap_or("no reason");
            return Err(Fault::failed(format!("the command never ended: {why}")));
        }
        output.stdout = String::from_utf8_lossy(&stdout).into_owned();
        output.stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(output)
    }

    /// Hangs up; the command runs on.
    pub(crate) fn leave(self) {
        self.frames.close();
    }
}

/// Percent-encoded for a query.
pub(crate) fn quote(text: impl AsRef<[u8]>) -> String {
    percent_encoding::percent_encode(text.as_ref(), percent_encoding::NON_ALPHANUMERIC).to_string()
}
