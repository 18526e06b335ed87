//! The table of API keys.

use std::path::Path;

use chrono::{DateTime, Utc};
use soulbox_model::TeamId;
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    ApiKey, Error, KeyHash, Mask, NewKey, Result, Store, busy::patiently, file::write_private, key,
    time::from_micros,
};

macro_rules! columns {
    () => {
        "id, team_id, name, prefix, value_length, value_prefix, value_suffix, created_at, \
         created_by, last_used_at"
    };
}

impl Store {
    /// Makes a key. Names need not be unique.
    pub async fn create_key(
        &self,
        team: TeamId,
        name: &str,
        created_by: Option<&str>,
    ) -> Result<NewKey> {
        let (plain, hash, mask) = key::generate();
        self.insert_key(team, name, created_by, hash, mask).await.map(|key| NewKey { key, plain })
    }

    /// Makes the first key of the default team if the store has no key at all, and writes its plain
    /// form into `file` (mode 0600, replaced). Returns whether it did.
    ///
    /// The file is on disk before the key counts: a crash between the two leaves a file whose key is
    /// unknown, which the next call replaces.
    pub async fn ensure_first_key(&self, file: &Path, name: &str) -> Result<bool> {
        let keys: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_key")
            .fetch_one(&self.writer)
            .await
            .map_err(Error::database("count API keys"))?;
        if keys > 0 {
            return Ok(false);
        }
        let (plain, hash, mask) = key::generate();
        let path = file.to_owned();
        tokio::task::spawn_blocking(move || write_private(&path, &plain))
            .await
            .map_err(|e| Error::io("write", file)(std::io::Error::other(e)))??;
        self.insert_key(self.default_team().id, name, None, hash, mask).await?;
        Ok(true)
    }

    async fn insert_key(
        &self,
        team: TeamId,
        name: &str,
        created_by: Option<&str>,
        hash: KeyHash,
        mask: Mask,
    ) -> Result<ApiKey> {
        let now = Utc::now().timestamp_micros();
        let key = ApiKey {
            id: Uuid::now_v7(),
            team,
            name: name.to_owned(),
            mask,
            created_at: from_micros("API key", now)?,
            created_by: created_by.map(str::to_owned),
            last_used_at: None,
        };
        patiently(|| async { sqlx::query(
            "INSERT INTO api_key (id, team_id, name, hash, prefix, value_length, value_prefix, \
             value_suffix, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(key.id.to_string())
        .bind(team.to_string())
        .bind(name)
        .bind(hash.to_hex())
        .bind(&key.mask.prefix)
        .bind(i64::from(key.mask.value_length))
        .bind(&key.mask.masked_value_prefix)
        .bind(&key.mask.masked_value_suffix)
        .bind(now)
        .bind(created_by)
        .execute(&self.writer)
        .await
        .map_err(Error::database("make an API key")) }).await?;
        Ok(key)
    }

    /// A team's keys, oldest first.
    pub async fn list_keys(&self, team: TeamId) -> Result<Vec<ApiKey>> {
        sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM api_key WHERE team_id = $1 ORDER BY created_at, id"
        ))
        .bind(team.to_string())
        .fetch_all(&self.reader)
        .await
        .map_err(Error::database("list API keys"))?
        .iter()
        .map(api_key)
        .collect()
    }

    pub async fn find_key(&self, hash: KeyHash) -> Result<Option<ApiKey>> {
        sqlx::query(concat!("SELECT ", columns!(), " FROM api_key WHERE hash = $1"))
            .bind(hash.to_hex())
            .fetch_optional(&self.reader)
            .await
            .map_err(Error::database("find an API key"))?
            .as_ref()
            .map(api_key)
            .transpose()
    }

    /// Returns whether the team had that key.
    pub async fn rename_key(&self, team: TeamId, id: Uuid, name: &str) -> Result<bool> {
        patiently(|| async {
            sqlx::query("UPDATE api_key SET name = $3 WHERE team_id = $1 AND id = $2")
                .bind(team.to_string())
                .bind(id.to_string())
                .bind(name)
                .execute(&self.writer)
                .await
                .map(|done| done.rows_affected() == 1)
                .map_err(Error::database("rename an API key"))
        })
        .await
    }

    /// Deletes a key. Returns whether the team had it.
    pub async fn revoke_key(&self, team: TeamId, id: Uuid) -> Result<bool> {
        patiently(|| async {
            sqlx::query("DELETE FROM api_key WHERE team_id = $1 AND id = $2")
                .bind(team.to_string())
                .bind(id.to_string())
                .execute(&self.writer)
                .await
                .map(|done| done.rows_affected() == 1)
                .map_err(Error::database("revoke an API key"))
        })
        .await
    }

    /// Notes when keys were used last; unknown ones are passed over.
    pub async fn touch_keys(&self, used: &[(Uuid, DateTime<Utc>)]) -> Result<()> {
        patiently(|| async {
            let failed = || Error::database("note the use of API keys");
            let mut transaction = self.writer.begin().await.map_err(failed())?;
            for (id, at) in used {
                sqlx::query("UPDATE api_key SET last_used_at = $2 WHERE id = $1")
                    .bind(id.to_string())
                    .bind(at.timestamp_micros())
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed())?;
            }
            transaction.commit().await.map_err(failed())
        })
        .await
    }
}

fn api_key(row: &SqliteRow) -> Result<ApiKey> {
    let get = || -> Result<_, sqlx::Error> {
        let texts: [String; 6] = [
            row.try_get("id")?,
            row.try_get("team_id")?,
            row.try_get("name")?,
            row.try_get("prefix")?,
            row.try_get("value_prefix")?,
            row.try_get("value_suffix")?,
        ];
        let length: i64 = row.try_get("value_length")?;
        let created_by: Option<String> = row.try_get("created_by")?;
        let created_at: i64 = row.try_get("created_at")?;
        let last_used_at: Option<i64> = row.try_get("last_used_at")?;
        Ok((texts, length, created_by, created_at, last_used_at))
    };
    let (texts, length, created_by, created_at, last_used_at) =
        get().map_err(Error::database("read an API key"))?;
    let [id, team, name, prefix, masked_value_prefix, masked_value_suffix] = texts;
    Ok(ApiKey {
        id: id.parse().map_err(Error::corrupt("API key"))?,
        team: team.parse().map_err(Error::corrupt("API key"))?,
        name,
        mask: Mask {
            prefix,
            value_length: length.try_into().map_err(Error::corrupt("API key"))?,
            masked_value_prefix,
            masked_value_suffix,
        },
        created_at: from_micros("API key", created_at)?,
        created_by,
        last_used_at: last_used_at.map(|at| from_micros("API key", at)).transpose()?,
    })
}
