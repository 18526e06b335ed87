//! `soulbox env`: what points an unmodified SDK at the running server.

use std::collections::BTreeMap;

use crate::{
    args::{Env, Shell},
    data_dir::{Announcement, DataDir},
    failure::{Failure, Result},
    settings::Settings,
};

pub(super) fn run(settings: &Settings, args: Env) -> Result<()> {
    let variables = variables(&settings.data_dir)?;
    if settings.output.json {
        return settings.output.value(&variables);
    }
    for (name, value) in &variables {
        settings.output.line(assignment(args.shell, name, value))?;
    }
    Ok(())
}

/// The variables of the server that runs on `data_dir`.
///
/// # Errors
/// If none runs there, or its key can't be read.
pub(super) fn variables(data_dir: &DataDir) -> Result<BTreeMap<&'static str, String>> {
    let Some(said) = data_dir.announcement()? else {
        return Err(Failure::NoServer { data_dir: data_dir.path().display().to_string() });
    };
    if !alive(&said) {
        return Err(Failure::Unreachable {
            reason: format!("process {} has ended", said.pid),
            url: said.url,
            hint: "start the server again with `soulbox serve`".into(),
        });
    }
    let mut variables = BTreeMap::from([
        ("E2B_API_URL", said.url.clone()),
        // One address for all sandboxes: the SDKs then say in headers which one they mean.
        ("E2B_SANDBOX_URL", said.url.clone()),
        // For host names of ports, and for SDKs too old to know the two above.
        ("E2B_DOMAIN", said.domain),
        // The SDKs do not derive this one from E2B_API_URL.
        ("E2B_VOLUME_API_URL", said.url),
    ]);
    if let Some(key) = data_dir.read_api_key()? {
        variables.insert("E2B_API_KEY", key);
    }
    if let Some(ca) = said.ca {
        let ca = ca.display().to_string();
        variables.insert("SSL_CERT_FILE", ca.clone());
        variables.insert("NODE_EXTRA_CA_CERTS", ca);
    }
    Ok(variables)
}

fn alive(said: &Announcement) -> bool {
    std::path::Path::new("/proc").join(said.pid.to_string()).exists()
}

fn assignment(shell: Shell, name: &str, value: &str) -> String {
    match shell {
        Shell::Posix => format!("export {name}={}", posix(value)),
        Shell::Fish => {
            format!("set -gx {name} '{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
        }
        Shell::Powershell => format!("$Env:{name} = '{}'", value.replace('\'', "''")),
    }
}

fn posix(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_leaves_its_quotes() {
        let value = "a'b$(id)\\";
        assert_eq!(assignment(Shell::Posix, "X", value), r"export X='a'\''b$(id)\'");
        assert_eq!(assignment(Shell::Fish, "X", value), r"set -gx X 'a\'b$(id)\\'");
        assert_eq!(assignment(Shell::Powershell, "X", value), r"$Env:X = 'a''b$(id)\'");
    }
}
