//! Teams: what keys and sandboxes belong to.

use chrono::{DateTime, Utc};
use soulbox_model::TeamId;
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use crate::{Error, Result, Store, time::from_micros};

const DEFAULT_SLUG: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub id: TeamId,
    /// The team's part of a full template name.
    pub slug: String,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// Every team, oldest first.
    pub async fn teams(&self) -> Result<Vec<Team>> {
        sqlx::query("SELECT id, slug, name, created_at FROM team ORDER BY created_at, id")
            .fetch_all(&self.reader)
            .await
            .map_err(Error::database("list teams"))?
            .iter()
            .map(team)
            .collect()
    }
}

pub(crate) async fn ensure_default(pool: &SqlitePool) -> Result<Team> {
    sqlx::query(
        "INSERT INTO team (id, slug, name, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (slug) DO NOTHING",
    )
    .bind(TeamId::random().to_string())
    .bind(DEFAULT_SLUG)
    .bind("Default")
    .bind(Utc::now().timestamp_micros())
    .execute(pool)
    .await
    .map_err(Error::database("make the default team"))?;
    let row = sqlx::query("SELECT id, slug, name, created_at FROM team WHERE slug = $1")
        .bind(DEFAULT_SLUG)
        .fetch_one(pool)
        .await
        .map_err(Error::database("read the default team"))?;
    team(&row)
}

fn team(row: &SqliteRow) -> Result<Team> {
    let read = Error::database("read a team");
    let (id, slug, name, created_at): (String, String, String, i64) =
        (|| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))()
            .map_err(read)?;
    Ok(Team {
        id: id.parse().map_err(Error::corrupt("team"))?,
        slug,
        name,
        created_at: from_micros("team", created_at)?,
    })
}
