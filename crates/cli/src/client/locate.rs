//! Which server to talk to, and with which key.

use std::{path::PathBuf, sync::Arc};

use super::{Endpoint, Server, http::Http};
use crate::{
    data_dir::DataDir,
    failure::{Failure, Result},
    settings::Settings,
};

/// Where the address of the server comes from.
#[derive(Debug)]
struct Found {
    api: Endpoint,
    sandboxes: Endpoint,
    ca: Option<PathBuf>,
    /// What to do when nobody answers there.
    hint: String,
    /// Whether the key in the data directory belongs to it.
    ours: bool,
}

/// What names the server.
enum Named<'a> {
    ApiUrl(&'a str),
    DataDir,
    Listen,
    Variable(String),
}

impl<'a> Named<'a> {
    /// A flag first, then `E2B_API_URL`, then the data directory.
    fn by(settings: &'a Settings) -> Self {
        if let Some(url) = &settings.api_url {
            Self::ApiUrl(url)
        } else if settings.names_data_dir {
            Self::DataDir
        } else if settings.names_listen {
            Self::Listen
        } else {
            variable("E2B_API_URL").map_or(Self::DataDir, Self::Variable)
        }
    }
}

/// Finds the server: a flag first, then `E2B_API_URL`, then the data directory.
///
/// # Errors
/// If no server is known, or no key to it.
pub fn locate(settings: &Settings) -> Result<Server> {
    let found = find(settings)?;
    let key = key(settings, found.ours)?;
    let http = Arc::new(Http::new(found.api.clone(), found.hint.clone(), found.ca.as_deref())?);
    let sandboxes = if found.sandboxes == found.api {
        Arc::clone(&http)
    } else {
        Arc::new(Http::new(found.sandboxes, found.hint, found.ca.as_deref())?)
    };
    Ok(Server::new(http, sandboxes, key))
}

fn find(settings: &Settings) -> Result<Found> {
    match Named::by(settings) {
        Named::ApiUrl(url) => {
            let api = endpoint("--api-url", url)?;
            let hint = "check --api-url, and that the server runs".to_owned();
            Ok(Found { sandboxes: api.clone(), api, ca: None, hint, ours: false })
        }
        Named::DataDir => announced(&settings.data_dir),
        Named::Listen => {
            let api = endpoint("--listen", &format!("http://{}", settings.listen))?;
            let hint = "check --listen, and that the server runs".to_owned();
            Ok(Found { sandboxes: api.clone(), api, ca: None, hint, ours: true })
        }
        Named::Variable(url) => {
            let api = endpoint("E2B_API_URL", &url)?;
            let sandboxes = match variable("E2B_SANDBOX_URL") {
                Some(url) => endpoint("E2B_SANDBOX_URL", &url)?,
                None => api.clone(),
            };
            let hint = "E2B_API_URL says so: unset it, or start the server there".to_owned();
            Ok(Found { api, sandboxes, ca: None, hint, ours: false })
        }
    }
}

/// Whether the server is this machine's own, so far as the settings say. One that is named by its address may be
/// anywhere.
pub fn is_here(settings: &Settings) -> bool {
    matches!(Named::by(settings), Named::DataDir | Named::Listen)
}

fn announced(data_dir: &DataDir) -> Result<Found> {
    let Some(said) = data_dir.announcement()? else {
        return Err(Failure::NoServer { data_dir: data_dir.path().display().to_string() });
    };
    let api = endpoint("server.json", &said.url)?;
    let hint =
        format!("process {} said it serves there; start it again with `soulbox serve`", said.pid);
    Ok(Found { sandboxes: api.clone(), api, ca: said.ca, hint, ours: true })
}

fn key(settings: &Settings, ours: bool) -> Result<String> {
    let from_file = || match settings.data_dir.read_api_key() {
        // Somebody who may not read the file may still have a key of their own.
        Err(Failure::Io { .. }) => Ok(None),
        other => other,
    };
    let given = settings.api_key.clone();
    let found = match (given, ours) {
        (Some(key), _) => Some(key),
        (None, true) => match from_file()? {
            Some(key) => Some(key),
            None => variable("E2B_API_KEY"),
        },
        (None, false) => match variable("E2B_API_KEY") {
            Some(key) => Some(key),
            None => from_file()?,
        },
    };
    let key = found.ok_or_else(|| Failure::Model {
        error: soulbox_model::Error::Authentication {
            method: "API key",
            message: "no key given".into(),
            retry_after: None,
        },
        hint: Some(format!(
            "set E2B_API_KEY or give --api-key; the server's own is in {}",
            settings.data_dir.api_key().display()
        )),
    })?;
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage("the API key holds something that no key holds"));
    }
    Ok(key)
}

fn endpoint(name: &str, url: &str) -> Result<Endpoint> {
    url.parse().map_err(|error| Failure::usage(format!("{name}: {error}")))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
