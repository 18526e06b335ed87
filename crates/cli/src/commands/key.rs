//! `soulbox key …`, on the database itself.

use serde_json::json;
use soulbox_store::{ApiKey, Store};

use crate::{
    args::Key,
    failure::{Failure, Result},
    output::plain,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: Key) -> Result<()> {
    let database = settings.data_dir.database();
    let exists = database.try_exists().map_err(Failure::io(database.display().to_string()))?;
    if !exists && !matches!(command, Key::Create { .. }) {
        return Err(Failure::NotFound {
            message: format!("there is no database in {}", settings.data_dir.path().display()),
            hint: Some("name the right --data-dir, or run `soulbox serve` once to make it".into()),
        });
    }
    settings.data_dir.create()?;
    let store = Store::open(&database).await.map_err(soulbox_model::Error::from)?;
    let done = apply(settings, &store, command).await;
    store.close().await;
    done
}

async fn apply(settings: &Settings, store: &Store, command: Key) -> Result<()> {
    let team = store.default_team().id;
    let output = &settings.output;
    match command {
        Key::Create { name } => {
            let name = name.trim();
            if name.is_empty() || name.chars().count() > 128 {
                return Err(Failure::usage("name: expected 1 to 128 characters"));
            }
            let made =
                store.create_key(team, name, None).await.map_err(soulbox_model::Error::from)?;
            if output.json {
                let mut value = shown(&made.key);
                value["key"] = json!(made.plain);
                output.value(&value)
            } else {
                output.note("this is the only time that the key is shown");
                output.line(made.plain)
            }
        }
        Key::List => {
            let keys = store.list_keys(team).await.map_err(soulbox_model::Error::from)?;
            if output.json {
                return output.value(&keys.iter().map(shown).collect::<Vec<_>>());
            }
            let rows = keys
                .iter()
                .map(|key| {
                    vec![
                        key.id.to_string(),
                        plain(&key.name),
                        key.mask.to_string(),
                        key.created_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                        key.last_used_at.map_or("never".to_owned(), |time| {
                            time.format("%Y-%m-%d %H:%M:%SZ").to_string()
                        }),
                    ]
                })
                .collect();
            output.table(&["ID", "NAME", "KEY", "CREATED", "LAST USED"], rows)
        }
        Key::Revoke { id } => {
            let revoked = store.revoke_key(team, id).await.map_err(soulbox_model::Error::from)?;
            if !revoked {
                return Err(soulbox_model::Error::not_found("key", id).into());
            }
            if output.json {
                output.value(&json!({ "id": id, "revoked": true }))
            } else {
                output.line(id)
            }
        }
    }
}

fn shown(key: &ApiKey) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "mask": key.mask.to_string(),
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
    })
}
