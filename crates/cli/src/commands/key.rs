//! `soulbox key …`, on the database itself.

use serde_json::json;
use soulbox_model::TeamId;
use soulbox_store::{ApiKey, Store};

use crate::{
    args::Key,
    failure::{Failure, Result},
    output::plain,
    settings::Settings,
};

pub(super) async fn run(settings: &Settings, command: Key) -> Result<()> {
    let store = open(settings, matches!(command, Key::Create { .. })).await?;
    let done = apply(settings, &store, command).await;
    store.close().await;
    done
}

/// The database in the data directory; one that is not there yet only if `may_make` it.
///
/// # Errors
/// If it is not there, or can't be opened.
pub(super) async fn open(settings: &Settings, may_make: bool) -> Result<Store> {
    let database = settings.data_dir.database();
    let exists = database.try_exists().map_err(Failure::io(database.display().to_string()))?;
    if !exists && !may_make {
        return Err(Failure::NotFound {
            message: format!("there is no database in {}", settings.data_dir.path().display()),
            hint: Some("name the right --data-dir, or run `soulbox serve` once to make it".into()),
        });
    }
    settings.data_dir.create()?;
    Ok(Store::open(&database).await.map_err(soulbox_model::Error::from)?)
}

/// The team of that short name; the first one without a name.
async fn team(store: &Store, slug: Option<&str>) -> Result<TeamId> {
    let Some(slug) = slug else { return Ok(store.default_team().id) };
    let found = store.find_team(slug).await.map_err(soulbox_model::Error::from)?;
    Ok(found.ok_or_else(|| soulbox_model::Error::not_found("team", slug))?.id)
}

async fn apply(settings: &Settings, store: &Store, command: Key) -> Result<()> {
    let output = &settings.output;
    match command {
        Key::Create { name, team: slug } => {
            let team = team(store, slug.as_deref()).await?;
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
        Key::List { team: slug } => {
            let team = team(store, slug.as_deref()).await?;
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
        Key::Revoke { id, team: slug } => {
            let team = team(store, slug.as_deref()).await?;
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
