//! Where a server is: scheme, host and port out of a URL.

use std::{fmt, str::FromStr};

use http::Uri;

/// The base of every request to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Without a slash at its end; usually empty.
    path: String,
}

impl Endpoint {
    /// `host` or `host:port`, as it stands in `Host`.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default = if self.tls { 443 } else { 80 };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// The request target of a path that starts with `/`.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a URL such as http://127.0.0.1:8990");
        let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        if uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { tls, host, port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_what_matters() {
        for (text, shown) in [
            ("http://127.0.0.1:8990", "http://127.0.0.1:8990"),
            ("http://127.0.0.1:80/", "http://127.0.0.1"),
            ("https://api.example.com", "https://api.example.com"),
            ("https://[::1]:8443/base/", "https://[::1]:8443/base"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), shown);
        }
        let base: Endpoint = "https://[::1]:8443/base/".parse().expect("parses");
        assert_eq!(base.target("/health"), "/base/health");
        assert_eq!(base.host, "::1");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for bad in ["", "127.0.0.1:8990", "ftp://x", "http://", "http://x?y=1", "localhost"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
