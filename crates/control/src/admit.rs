//! Whether a request for a sandbox makes sense.

use std::collections::BTreeMap;

use soulbox_model::{Error, Resources, Result};

use crate::types::{Create, Limits};

/// Bytes of all metadata of a sandbox together.
const METADATA_BYTES: usize = 64 * 1024;
/// Bytes of all environment variables together.
const ENV_BYTES: usize = 1024 * 1024;
/// Bytes of one variable, `=` and final NUL included: what the kernel passes to a program.
const ENV_ENTRY_BYTES: usize = 128 * 1024;
const TEMPLATE_BYTES: usize = 256;
const IDEMPOTENCY_KEY_BYTES: usize = 255;

pub(crate) fn check(request: &Create, limits: &Limits) -> Result<()> {
    if request.template.is_empty() || request.template.len() > TEMPLATE_BYTES {
        return Err(Error::invalid("templateID", "must be 1 to 256 characters"));
    }
    if request.timeout.is_zero() {
        return Err(Error::invalid("timeout", "must be greater than 0"));
    }
    check_timeout(request.timeout, limits)?;
    if request.auto_pause {
        return Err(Error::NotImplemented { feature: "pausing at the timeout".into() });
    }
    if bytes_of(&request.metadata) > METADATA_BYTES {
        return Err(Error::invalid("metadata", "must not exceed 64 KiB in all"));
    }
    check_env(&request.env)?;
    if let Some(resources) = &request.shape.resources {
        check_resources(resources)?;
    }
    if let Some(key) = &request.idempotency_key {
        let valid = (1..=IDEMPOTENCY_KEY_BYTES).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_graphic());
        if !valid {
            let message = "must be 1 to 255 printable ASCII characters without blanks";
            return Err(Error::invalid("Idempotency-Key", message));
        }
    }
    Ok(())
}

/// What one sandbox may ask for: more than the machine has helps nobody.
fn check_resources(asked: &Resources) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = u32::try_from(cores * 1000).unwrap_or(u32::MAX);
    if !(Resources::LEAST_CPU_MILLIS..=most).contains(&asked.cpu_millis) {
        let least = Resources::LEAST_CPU_MILLIS;
        let message =
            format!("must be {least} to {most} thousandths of a core: this machine has {cores}");
        return Err(Error::invalid("soulbox.cpuMillis", message));
    }
    check_bytes("soulbox.memoryBytes", asked.memory_bytes, Resources::LEAST_MEMORY_BYTES)?;
    check_bytes("soulbox.diskBytes", asked.disk_bytes, Resources::LEAST_DISK_BYTES)
}

fn check_bytes(field: &str, asked: u64, least: u64) -> Result<()> {
    let most = Resources::MOST_BYTES;
    if (least..=most).contains(&asked) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("must be {least} to {most} bytes")))
}

pub(crate) fn check_timeout(timeout: std::time::Duration, limits: &Limits) -> Result<()> {
    if timeout <= limits.max_timeout {
        return Ok(());
    }
    let seconds = limits.max_timeout.as_secs();
    let most = match seconds {
        s if s % 3600 == 0 => format!("{} hours", s / 3600),
        s => format!("{s} seconds"),
    };
    Err(Error::invalid("timeout", format!("cannot be greater than {most}")))
}

pub(crate) fn check_env(env: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in env {
        let shown: String = name.chars().take(40).collect();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{shown}` is no name: it must not be empty nor hold = or NUL");
            return Err(Error::invalid("envVars", message));
        }
        if value.contains('\0') {
            return Err(Error::invalid("envVars", format!("`{shown}` must not hold NUL")));
        }
        if name.len() + value.len() + 2 > ENV_ENTRY_BYTES {
            return Err(Error::invalid("envVars", format!("`{shown}` is longer than 128 KiB")));
        }
    }
    if bytes_of(env) > ENV_BYTES {
        return Err(Error::invalid("envVars", "must not exceed 1 MiB in all"));
    }
    Ok(())
}

fn bytes_of(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::Shape;

    fn request() -> Create {
        Create {
            template: "base".into(),
            timeout: Duration::from_secs(300),
            metadata: BTreeMap::new(),
            env: BTreeMap::new(),
            env_secrets: false,
            secure: true,
            auto_pause: false,
            allow_internet: Some(true),
            network: None,
            shape: Default::default(),
            idempotency_key: None,
        }
    }

    fn field(request: &Create) -> Option<String> {
        match check(request, &Limits::default()) {
            Ok(()) => None,
            Err(Error::InvalidRequest { field, .. }) => Some(field),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(field(&request()), None);
        let longest = Create { timeout: Limits::default().max_timeout, ..request() };
        assert_eq!(field(&longest), None);
    }

    #[test]
    fn each_bad_field_is_named() {
        let env = |name: &str, value: &str| Create {
            env: [(name.to_owned(), value.to_owned())].into(),
            ..request()
        };
        let few = Resources {
            cpu_millis: Resources::LEAST_CPU_MILLIS,
            memory_bytes: Resources::LEAST_MEMORY_BYTES,
            disk_bytes: Resources::LEAST_DISK_BYTES,
            ..Resources::default()
        };
        let shape = |resources| Create {
            shape: Shape { resources: Some(resources), ..Shape::default() },
            ..request()
        };
        assert_eq!(field(&shape(few)), None);
        let key = |key: &str| Create { idempotency_key: Some(key.into()), ..request() };
        for (bad, named) in [
            (Create { template: String::new(), ..request() }, "templateID"),
            (Create { template: "x".repeat(257), ..request() }, "templateID"),
            (Create { timeout: Duration::ZERO, ..request() }, "timeout"),
            (Create { timeout: Duration::from_secs(24 * 3600 + 1), ..request() }, "timeout"),
            (
                Create { metadata: [("k".into(), "v".repeat(70_000))].into(), ..request() },
                "metadata",
            ),
            (env("", "v"), "envVars"),
            (env("A=B", "v"), "envVars"),
            (env("A", "v\0"), "envVars"),
            (env("A", &"v".repeat(140_000)), "envVars"),
            (shape(Resources { cpu_millis: 9, ..few }), "soulbox.cpuMillis"),
            (shape(Resources { cpu_millis: u32::MAX, ..few }), "soulbox.cpuMillis"),
            (shape(Resources { memory_bytes: few.memory_bytes - 1, ..few }), "soulbox.memoryBytes"),
            (shape(Resources { memory_bytes: u64::MAX, ..few }), "soulbox.memoryBytes"),
            (shape(Resources { disk_bytes: few.disk_bytes - 1, ..few }), "soulbox.diskBytes"),
            (key(""), "Idempotency-Key"),
            (key("a b"), "Idempotency-Key"),
            (key(&"k".repeat(256)), "Idempotency-Key"),
        ] {
            assert_eq!(field(&bad).as_deref(), Some(named));
        }
    }

    #[test]
    fn what_cannot_be_kept_is_not_promised() {
        let request = Create { auto_pause: true, ..request() };
        let error = check(&request, &Limits::default()).unwrap_err();
        assert_eq!(error.http_status(), 501);
    }
}
