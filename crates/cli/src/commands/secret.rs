//! `soulbox secret …`: through the server, but for the key, which is the data directory's.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Read},
    path::Path,
};

use serde_json::json;
use soulbox_model::SecretValue;
use soulbox_wire::rest::BoundSecret;

use crate::{
    args::secret::{Secret, Set},
    client::{Server, locate},
    failure::{Failure, Result},
    output::{Output, plain},
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: Secret) -> Result<()> {
    let output = &settings.output;
    match command {
        Secret::Set(args) => set(&locate(settings)?, output, args).await,
        Secret::List => list(&locate(settings)?, output).await,
        Secret::Rm { names } => remove(&locate(settings)?, output, &names).await,
        Secret::RotateKey => rotate(settings).await,
    }
}

async fn set(server: &Server, output: &Output, args: Set) -> Result<()> {
    let value = if args.keep_value {
        None
    } else {
        let from = args.from_file.clone();
        let raw = args.raw;
        let read = tokio::task::spawn_blocking(move || value(from.as_deref(), raw)).await;
        Some(read.map_err(|error| Failure::usage(format!("the value: {error}")))??)
    };
    let hosts = (args.any_host || !args.host.is_empty()).then_some(args.host);
    let metadata: Option<BTreeMap<_, _>> =
        (!args.metadata.is_empty()).then(|| args.metadata.into_iter().collect());
    let stored =
        server.put_secret(&args.name, value.as_ref(), metadata.as_ref(), hosts.as_deref()).await?;
    if output.json { output.value(&stored) } else { output.line(plain(&stored.secret.secret_id)) }
}

fn value(file: Option<&Path>, raw: bool) -> Result<SecretValue> {
    // One byte more than may be says that it is too long.
    let limit = SecretValue::MAX as u64 + 3;
    let mut text = String::new();
    match file {
        Some(path) => {
            let shown = path.display().to_string();
            let file = std::fs::File::open(path).map_err(Failure::io(shown.clone()))?;
            file.take(limit).read_to_string(&mut text).map_err(Failure::io(shown))?;
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::Usage {
                message: "the value is read from standard input, which is a terminal".into(),
                hint: Some("pipe it in, or name a file with --from-file".into()),
            });
        }
        None => {
            let input = std::io::stdin().lock().take(limit).read_to_string(&mut text);
            input.map_err(Failure::io("standard input"))?;
        }
    }
    if !raw && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    SecretValue::new(text).map_err(|why| Failure::usage(format!("the value {why}")))
}

async fn list(server: &Server, output: &Output) -> Result<()> {
    let secrets = server.secrets().await?;
    if output.json {
        return output.value(&secrets);
    }
    let rows = secrets
        .iter()
        .map(|BoundSecret { secret, hosts }| {
            vec![
                plain(&secret.name),
                plain(&secret.secret_id),
                secret.current_version.to_string(),
                if hosts.is_empty() { "any".to_owned() } else { plain(&hosts.join(" ")) },
                secret.updated_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
            ]
        })
        .collect();
    output.table(&["NAME", "ID", "VERSION", "HOSTS", "UPDATED"], rows)
}

async fn remove(server: &Server, output: &Output, names: &[String]) -> Result<()> {
    let mut deleted = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match server.delete_secret(name).await? {
            true => deleted.push(name),
            false => missing.push(name),
        }
    }
    if output.json {
        output.value(&json!({ "deleted": deleted, "missing": missing }))?;
    } else {
        deleted.iter().try_for_each(|name| output.line(plain(name)))?;
    }
    match missing.first() {
        None => Ok(()),
        Some(name) => Err(soulbox_model::Error::not_found("secret", name).into()),
    }
}

async fn rotate(settings: &Settings) -> Result<()> {
    let store = super::key::open(settings, false).await?;
    let rotated = store.rotate_vault_key().await.map_err(soulbox_model::Error::from);
    store.close().await;
    let rotated = rotated?;
    let output = &settings.output;
    if output.json {
        output.value(&json!({ "key_id": rotated.key_id, "secrets": rotated.secrets }))
    } else {
        output.note(format!("{} secrets are sealed with a fresh key", rotated.secrets));
        output.line(rotated.key_id)
    }
}
