//! Teams: what keys and sandboxes belong to.

use chrono::{DateTime, Utc};
use soulbox_model::TeamId;
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use crate::{Error, Result, Store, busy::patiently, sandboxes::taken, time::from_micros};

const DEFAULT_SLUG: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub id: TeamId,
    /// The team's part of a full template name.
    pub slug: String,
    pub name: String,
    pub created_at: DateTime<Utc>,
}

const SLUG_BYTES: usize = 63;
const NAME_CHARS: usize = 128;

impl Store {
    /// Makes a team that has nothing yet.
    ///
    /// # Errors
    /// [`Error::Taken`] for a slug that there is, [`Error::Unfit`] for one that can be none.
    pub async fn create_team(&self, slug: &str, name: &str) -> Result<Team> {
        check(slug, name)?;
        let team = Team {
            id: TeamId::random(),
            slug: slug.to_owned(),
            name: name.to_owned(),
            created_at: from_micros("team", Utc::now().timestamp_micros())?,
        };
        patiently(|| async {
            sqlx::query("INSERT INTO team (id, slug, name, created_at) VALUES ($1, $2, $3, $4)")
                .bind(team.id.to_string())
                .bind(slug)
                .bind(name)
                .bind(team.created_at.timestamp_micros())
                .execute(&self.writer)
                .await
                .map_err(taken("the name of the team", "make a team"))
        })
        .await?;
        Ok(team)
    }

    pub async fn find_team(&self, slug: &str) -> Result<Option<Team>> {
        sqlx::query("SELECT id, slug, name, created_at FROM team WHERE slug = $1")
            .bind(slug)
            .fetch_optional(&self.reader)
            .await
            .map_err(Error::database("find a team"))?
            .as_ref()
            .map(team)
            .transpose()
    }

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

/// A slug is a part of a template's full name, and may become one of a host's.
fn check(slug: &str, name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let slug_fits = (1..=SLUG_BYTES).contains(&slug.len())
        && slug.bytes().all(plain)
        && !slug.starts_with('-')
        && !slug.ends_with('-');
    if !slug_fits {
        return Err(Error::Unfit("team", "its short name must be 1 to 63 of a-z, 0-9 and -"));
    }
    let name_fits = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARS
        && !name.chars().any(char::is_control);
    if !name_fits {
        return Err(Error::Unfit("team", "its name must be 1 to 128 characters"));
    }
    Ok(())
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
