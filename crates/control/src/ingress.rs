//! Who may reach the ports of a sandbox.

use std::fmt;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use soulbox_model::{Port, network::HostMask};
use soulbox_store::SandboxRow;
use subtle::ConstantTimeEq;

use crate::core::Core;

const TRAFFIC_TOKEN: &str = "sandbox traffic token";
/// Longer ones are none of ours.
const LONGEST: usize = 128;
/// Exposed ports that a text lists.
const TOLD: usize = 16;

/// How the ports of one sandbox are reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PortAccess {
    /// What requests must bear; `None`: anybody may come.
    token: Option<String>,
    mask: Option<HostMask>,
    https: Vec<Port>,
    /// `None`: every port.
    exposed: Option<Vec<Port>>,
}

/// A port that nobody outside of its sandbox reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexposed {
    pub port: Port,
    pub exposed: Vec<Port>,
}

impl fmt::Display for Unexposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not exposed", self.port)?;
        if self.exposed.is_empty() {
            return f.write_str("; this sandbox exposes none");
        }
        let (told, more) = self.exposed.split_at(self.exposed.len().min(TOLD));
        let told: Vec<_> = told.iter().map(Port::to_string).collect();
        write!(f, "; exposed are {}", told.join(", "))?;
        if more.is_empty() { Ok(()) } else { write!(f, " and {} more", more.len()) }
    }
}

/// What a pass is good for: one is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// In an address that somebody is given.
    Url,
    /// In a browser that came by such an address.
    Cookie,
}

impl fmt::Debug for PortAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.token.is_none();
        f.debug_struct("PortAccess")
            .field("public", &public)
            .field("mask", &self.mask)
            .field("https", &self.https)
            .field("exposed", &self.exposed)
            .finish()
    }
}

impl PortAccess {
    /// With a token, only who bears it may come.
    pub fn new(token: Option<String>, mask: Option<HostMask>) -> Self {
        Self { token, mask, https: Vec::new(), exposed: None }
    }

    /// The programs on these ports speak TLS.
    #[must_use]
    pub fn with_https(mut self, ports: Vec<Port>) -> Self {
        self.https = ports;
        self
    }

    /// Nobody reaches any other port than these.
    #[must_use]
    pub fn with_exposed(mut self, ports: Option<Vec<Port>>) -> Self {
        self.exposed = ports;
        self
    }

    /// Whether anybody may reach a port; who that is, the token says. The agent's always is.
    pub fn check_exposed(&self, port: Port) -> Result<(), Unexposed> {
        match &self.exposed {
            Some(exposed) if port != Port::AGENT && !exposed.contains(&port) => {
                Err(Unexposed { port, exposed: exposed.clone() })
            }
            _ => Ok(()),
        }
    }

    pub fn speaks_tls(&self, port: Port) -> bool {
        self.https.contains(&port)
    }

    pub fn is_public(&self) -> bool {
        self.token.is_none()
    }

    /// What requests carry as host instead of the one that was asked for.
    pub fn mask(&self) -> Option<&HostMask> {
        self.mask.as_ref()
    }

    /// The token that opens all ports for as long as the sandbox lives.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether this is the token; takes the same time whatever is given.
    pub fn admits(&self, given: &[u8]) -> bool {
        self.token.as_ref().is_none_or(|token| token.as_bytes().ct_eq(given).into())
    }

    /// Opens one port until a moment; `None` for public ports, which need none.
    pub fn pass(&self, kind: Pass, port: Port, until: DateTime<Utc>) -> Option<String> {
        let seconds = until.timestamp();
        Some(format!("{seconds}.{}", self.seal(kind, port, seconds)?))
    }

    /// Whether this pass is of this kind, for this port and not over.
    pub fn admits_pass(&self, kind: Pass, port: Port, given: &[u8], now: DateTime<Utc>) -> bool {
        let parse = || {
            let text = std::str::from_utf8(given).ok().filter(|text| text.len() <= LONGEST)?;
            let (seconds, seal) = text.split_once('.')?;
            let until: i64 = seconds.parse().ok()?;
            let expected = self.seal(kind, port, until)?;
            let fits: bool = expected.as_bytes().ct_eq(seal.as_bytes()).into();
            // `+5` and `05` are numbers too; only one spelling was sealed.
            Some(fits && until > now.timestamp() && until.to_string() == seconds)
        };
        parse().unwrap_or(false)
    }

    /// The token is the key: it differs for every sandbox, so does the seal.
    fn seal(&self, kind: Pass, port: Port, seconds: i64) -> Option<String> {
        let token = self.token.as_ref()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).ok()?;
        let kind = match kind {
            Pass::Url => "url",
            Pass::Cookie => "cookie",
        };
        mac.update(format!("{kind} {port} {seconds}").as_bytes());
        Some(hex::encode(mac.finalize().into_bytes()))
    }
}

impl Core {
    /// The same after every restart; the token is written nowhere.
    pub(crate) fn port_access(&self, row: &SandboxRow) -> PortAccess {
        let Some(ingress) = row.network.as_ref().map(|network| &network.ingress) else {
            return PortAccess::default();
        };
        let token = (!ingress.public)
            .then(|| self.store.secret().derive(TRAFFIC_TOKEN, row.id.as_str().as_bytes()));
        PortAccess::new(token, ingress.mask_request_host.clone())
            .with_https(ingress.https_ports.clone())
            .with_exposed(ingress.exposed.clone())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn private(token: &str) -> PortAccess {
        PortAccess::new(Some(token.into()), None)
    }

    #[test]
    fn only_the_token_opens() {
        let access = private("abcdef");
        assert!(access.admits(b"abcdef"));
        for wrong in ["", "abcde", "abcdeg", "abcdef ", "ABCDEF", "abcdefabcdef"] {
            assert!(!access.admits(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(PortAccess::default().admits(b"whatever"));
        assert!(!format!("{access:?}").contains("abcdef"));
    }

    #[test]
    fn a_pass_is_for_one_use_one_port_one_sandbox_and_a_time() {
        let now = Utc::now();
        let until = now + TimeDelta::minutes(1);
        let access = private("abcdef");
        let pass = access.pass(Pass::Url, port(3000), until).unwrap();
        let admits = |access: &PortAccess, kind, number, text: &str, now| {
            access.admits_pass(kind, port(number), text.as_bytes(), now)
        };
        assert!(admits(&access, Pass::Url, 3000, &pass, now));
        assert!(!admits(&access, Pass::Cookie, 3000, &pass, now));
        assert!(!admits(&access, Pass::Url, 3001, &pass, now));
        assert!(!admits(&private("abcdeg"), Pass::Url, 3000, &pass, now));
        assert!(!admits(&access, Pass::Url, 3000, &pass, until));
        let (seconds, seal) = pass.split_once('.').unwrap();
        let later = (until + TimeDelta::days(1)).timestamp();
        for forged in [
            format!("{later}.{seal}"),
            format!("+{pass}"),
            format!("0{pass}"),
            format!("{seconds}."),
            seconds.to_owned(),
            format!("{pass}00"),
            String::new(),
            "9".repeat(200),
        ] {
            assert!(!admits(&access, Pass::Url, 3000, &forged, now), "{forged}");
        }
        assert_eq!(PortAccess::default().pass(Pass::Url, port(3000), until), None);
    }

    #[test]
    fn a_list_exposes_what_it_names_and_nothing_else() {
        let of = |numbers: &[u16]| {
            let list = numbers.iter().copied().map(port).collect();
            PortAccess::default().with_exposed(Some(list))
        };
        assert_eq!(of(&[80, 8080]).check_exposed(port(8080)), Ok(()));
        assert_eq!(of(&[80]).check_exposed(Port::AGENT), Ok(()));
        assert_eq!(PortAccess::default().check_exposed(port(81)), Ok(()));
        let told = |access: PortAccess| access.check_exposed(port(81)).unwrap_err().to_string();
        assert_eq!(told(of(&[80, 8080])), "81 is not exposed; exposed are 80, 8080");
        assert_eq!(told(of(&[])), "81 is not exposed; this sandbox exposes none");
        let many: Vec<u16> = (1000..1256).collect();
        assert!(told(of(&many)).ends_with("1014, 1015 and 240 more"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_pass(bytes in proptest::collection::vec(any::<u8>(), 0..140)) {
            let access = private("abcdef");
            prop_assert!(!access.admits_pass(Pass::Cookie, port(80), &bytes, Utc::now()));
        }
    }
}
