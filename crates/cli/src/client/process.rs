//! The messages of `process.Process` that the command line uses, in their JSON form.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use soulbox_wire::signal;

/// What to run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Config {
    pub cmd: String,
    pub args: Vec<String>,
    pub envs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    pub cols: u16,
    pub rows: u16,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Pty {
    pub size: Size,
}

#[derive(Debug, Serialize)]
pub struct Start {
    pub process: Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pty: Option<Pty>,
    pub stdin: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Selector {
    Pid(u32),
}

#[derive(Debug, Serialize)]
pub struct Select {
    pub process: Selector,
}

#[derive(Debug, Serialize)]
pub struct Update {
    pub process: Selector,
    pub pty: Pty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Signal {
    #[serde(rename = "SIGNAL_SIGTERM")]
    Term,
    #[serde(rename = "SIGNAL_SIGKILL")]
    Kill,
}

#[derive(Debug, Serialize)]
pub struct SendSignal {
    pub process: Selector,
    pub signal: Signal,
}

/// One message of `StreamInput`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Input {
    Start { process: Selector },
    Data { input: Bytes },
}

/// Bytes to a pipe or to a terminal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bytes {
    Stdin(Base64),
    Pty(Base64),
}

/// One message of the stream that `Start` answers.
#[derive(Debug, Deserialize)]
pub struct Response {
    pub event: Event,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    Start {
        #[serde(default)]
        pid: u32,
    },
    Data(Data),
    End(End),
    Keepalive {},
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Data {
    Stdout(Base64),
    Stderr(Base64),
    Pty(Base64),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct End {
    pub exit_code: i32,
    pub exited: bool,
    pub status: String,
    pub error: Option<String>,
}

impl End {
    /// As a shell reports it: the exit code, or 128 plus the signal.
    pub fn code(&self) -> u8 {
        if self.exited || self.exit_code >= 0 {
            // A process has eight bits of exit code.
            return (self.exit_code & 0xff) as u8;
        }
        let name = self.status.strip_prefix("signal: ").unwrap_or(&self.status);
        let name = name.strip_suffix(" (core dumped)").unwrap_or(name);
        signal::number(name).and_then(|number| number.checked_add(128)).unwrap_or(u8::MAX)
    }
}

/// Bytes that travel as base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&base64::display::Base64Display::new(&self.0, &BASE64_STANDARD))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_agent_writes_them() {
        let read = |text: &str| serde_json::from_str::<Response>(text).expect(text).event;
        assert!(matches!(read(r#"{"event":{"start":{"pid":7}}}"#), Event::Start { pid: 7 }));
        assert!(matches!(read(r#"{"event":{"keepalive":{}}}"#), Event::Keepalive {}));
        let Event::Data(Data::Stderr(bytes)) = read(r#"{"event":{"data":{"stderr":"aGk="}}}"#)
        else {
            panic!("no data");
        };
        assert_eq!(bytes.0, b"hi");
        let Event::End(end) = read(r#"{"event":{"end":{"exited":true,"status":"exit status 0"}}}"#)
        else {
            panic!("no end");
        };
        assert_eq!(end.code(), 0);
    }

    #[test]
    fn requests_are_written_as_the_agent_reads_them() {
        let input = Input::Data { input: Bytes::Pty(Base64(b"ls\n".to_vec())) };
        assert_eq!(
            serde_json::to_string(&input).expect("encodes"),
            r#"{"data":{"input":{"pty":"bHMK"}}}"#
        );
        let signal = SendSignal { process: Selector::Pid(4), signal: Signal::Kill };
        assert_eq!(
            serde_json::to_string(&signal).expect("encodes"),
            r#"{"process":{"pid":4},"signal":"SIGNAL_SIGKILL"}"#
        );
    }

    #[test]
    fn signals_become_shell_codes() {
        let by = |status: &str| {
            End { exit_code: -1, exited: false, status: status.into(), error: None }.code()
        };
        assert_eq!(by("signal: killed"), 137);
        assert_eq!(by("signal: terminated"), 143);
        assert_eq!(by("signal: segmentation fault (core dumped)"), 139);
        assert_eq!(by("signal: CPU time limit exceeded (core dumped)"), 152);
        assert_eq!(by("signal: signal 40"), 168);
        assert_eq!(by("signal: 35"), 255);
    }
}
