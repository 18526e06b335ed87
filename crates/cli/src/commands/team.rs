//! `soulbox team …`, on the database itself.

use serde_json::json;
use soulbox_store::{Store, Team as StoredTeam};

use super::key::open;
use crate::{args::team::Team, failure::Result, output::plain, settings::Settings};

pub(super) async fn run(settings: &Settings, command: Team) -> Result<()> {
    let store = open(settings, matches!(command, Team::Create { .. })).await?;
    let done = apply(settings, &store, command).await;
    store.close().await;
    done
}

async fn apply(settings: &Settings, store: &Store, command: Team) -> Result<()> {
    let output = &settings.output;
    match command {
        Team::Create { slug, name } => {
            let name = name.unwrap_or_else(|| slug.clone());
            let made = store.create_team(&slug, &name).await.map_err(soulbox_model::Error::from)?;
            if output.json { output.value(&shown(&made)) } else { output.line(made.id) }
        }
        Team::List => {
            let teams = store.teams().await.map_err(soulbox_model::Error::from)?;
            if output.json {
                return output.value(&teams.iter().map(shown).collect::<Vec<_>>());
            }
            let rows = teams
                .iter()
                .map(|team| {
                    vec![
                        team.slug.clone(),
                        plain(&team.name),
                        team.id.to_string(),
                        team.created_at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                    ]
                })
                .collect();
            output.table(&["TEAM", "NAME", "ID", "CREATED"], rows)
        }
    }
}

fn shown(team: &StoredTeam) -> serde_json::Value {
    json!({
        "id": team.id,
        "slug": team.slug,
        "name": team.name,
        "created_at": team.created_at,
    })
}
