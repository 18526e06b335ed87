//! Values that flags take, parsed once at the edge.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use soulbox_model::network::{Destination, RequestRate};
use soulbox_runtime::detect::Runtime;
use soulbox_spec::value::{self, Parsed};

/// `90`, `90s`, `500ms`, `5m`, `2h`, `1d`; a bare number is seconds.
///
/// # Errors
/// What was expected instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("`{text}` is not a duration: expected a number with s, ms, m, h or d");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(expected)
}

/// What a server takes for the making of a template.
///
/// # Errors
/// What was expected instead.
pub fn install_time(text: &str) -> Result<Duration, String> {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(20 * 60));
    let wanted = duration(text)?;
    match (least..=most).contains(&wanted) {
        true => Ok(wanted),
        false => Err(format!("`{text}` is out of range: expected 1s to 20m")),
    }
}

/// Memory of a sandbox, as in soulbox.toml.
///
/// # Errors
/// What was expected instead.
pub fn memory(text: &str) -> Result<u64, String> {
    as_in_file(value::memory(text))
}

/// Thousandths of a core, as in soulbox.toml.
///
/// # Errors
/// What was expected instead.
pub fn cores(text: &str) -> Result<u32, String> {
    as_in_file(value::cores(text))
}

fn as_in_file<T>(parsed: Parsed<T>) -> Result<T, String> {
    parsed.map_err(|wrong| format!("it {}: expected {}", wrong.why, wrong.expected))
}

/// `1280x720`.
///
/// # Errors
/// What was expected instead.
pub fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(width, height)| {
        Some((width.parse::<u32>().ok()?, height.parse::<u32>().ok()?))
    });
    sides.ok_or_else(|| format!("`{text}` is no size: expected two numbers, as 1280x720"))
}

/// A runtime by its name.
///
/// # Errors
/// With the names that there are.
pub fn runtime_id(text: &str) -> Result<Runtime, String> {
    Runtime::from_id(text).ok_or_else(|| {
        let names: Vec<_> = Runtime::ALL.iter().map(|runtime| runtime.id()).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// `KEY=VALUE`; the value may be empty and may hold `=`.
///
/// # Errors
/// What was expected instead.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// `HOST=COUNT`, of requests in a minute.
///
/// # Errors
/// What was expected instead.
pub fn request_rate(text: &str) -> Result<RequestRate, String> {
    let bad = || format!("`{text}` is not HOST=COUNT, as in `*.example.com=600`");
    let (host, count) = text.split_once('=').ok_or_else(bad)?;
    RequestRate::new(host.parse()?, count.parse().map_err(|_| bad())?)
}

/// `DESTINATION=BYTES`: an address, a range, a host, `*.domain` or `*`.
///
/// # Errors
/// What was expected instead.
pub fn byte_count(text: &str) -> Result<(Destination, u64), String> {
    let bad = || format!("`{text}` is not DESTINATION=BYTES, as in `*.example.com=1000000`");
    let (destination, count) = text.rsplit_once('=').ok_or_else(bad)?;
    match count.parse() {
        Ok(count @ 1..) => Ok((destination.parse()?, count)),
        _ => Err(bad()),
    }
}

/// `IP` or `IP:PORT`; 53 if no port is given.
///
/// # Errors
/// What was expected instead.
pub fn name_server(text: &str) -> Result<SocketAddr, String> {
    const PORT: u16 = 53;
    text.parse()
        .or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)))
        .map_err(|_| format!("`{text}` is no name server: expected IP or IP:PORT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "s", "-1", "1.5h", "5 m", "5x", "99999999999999999999"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration("18446744073709551615d").is_err());
    }

    #[test]
    fn an_installation_has_twenty_minutes() {
        assert_eq!(install_time("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(install_time("20m"), Ok(Duration::from_secs(1200)));
        for bad in ["0s", "999ms", "1201s", "1h", "x"] {
            assert!(install_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_have_the_units_of_project_files() {
        assert_eq!(memory("2GiB"), Ok(2 << 30));
        assert_eq!((cores("500m"), cores("2")), (Ok(500), Ok(2000)));
        for bad in ["", "512", "1MB", "-1GB", "1GB ", "99999999999TB"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
        for bad in ["", "0", "0m", "-1", "x", "1.5.2"] {
            assert!(cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_of_a_host() {
        let rate = request_rate("*.Example.com=600").unwrap();
        assert_eq!((rate.host.to_string().as_str(), rate.per_minute), ("*.example.com", 600));
        for bad in ["a.b", "a.b=", "a.b=x", "a.b=-1", "=5", "a b=5", "a.b=0"] {
            assert!(request_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_of_a_destination() {
        let (to, count) = byte_count("2001:db8::/32=5").unwrap();
        assert_eq!((to.to_string().as_str(), count), ("2001:db8::/32", 5));
        for bad in ["a.b", "a.b=", "a.b=0", "a.b=1MB", "a b=5", "=5"] {
            assert!(byte_count(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pair_has_a_key() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("ab").is_err());
    }
}
