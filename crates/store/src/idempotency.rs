//! Which request made which sandbox.

use chrono::{DateTime, Utc};
use soulbox_model::{SandboxId, TeamId};
use sqlx::{Row, SqliteConnection};

use crate::{Error, Result, Store, busy::patiently, sandboxes::taken};

/// A client's name for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    pub key: String,
    /// Tells the request from another under the same key.
    pub request_hash: String,
}

/// What is known of a request that was seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyRow {
    pub request_hash: String,
    pub sandbox: SandboxId,
}

impl Store {
    pub async fn find_idempotency(
        &self,
        team: TeamId,
        key: &str,
    ) -> Result<Option<IdempotencyRow>> {
        let failed = Error::database("find an idempotency key");
        let Some(row) = sqlx::query(
            "SELECT request_hash, sandbox_id FROM idempotency WHERE team_id = $1 AND request_key = $2",
        )
        .bind(team.to_string())
        .bind(key)
        .fetch_optional(&self.reader)
        .await
        .map_err(failed)?
        else {
            return Ok(None);
        };
        let get = || Ok((row.try_get(0)?, row.try_get(1)?));
        let (request_hash, sandbox): (String, String) =
            get().map_err(Error::database("read an idempotency key"))?;
        let sandbox = sandbox.parse().map_err(Error::corrupt("idempotency key"))?;
        Ok(Some(IdempotencyRow { request_hash, sandbox }))
    }

    /// Forgets the keys from before `until` whose sandbox is gone. Returns how many.
    pub async fn prune_idempotency(&self, until: DateTime<Utc>) -> Result<u64> {
        patiently(|| async {
            sqlx::query(
                "DELETE FROM idempotency WHERE created_at < $1 \
             AND NOT EXISTS (SELECT 1 FROM sandbox WHERE sandbox.id = idempotency.sandbox_id)",
            )
            .bind(until.timestamp_micros())
            .execute(&self.writer)
            .await
            .map(|done| done.rows_affected())
            .map_err(Error::database("forget idempotency keys"))
        })
        .await
    }
}

pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    team: TeamId,
    sandbox: &SandboxId,
    idempotency: &Idempotency,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO idempotency (team_id, request_key, request_hash, sandbox_id, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(team.to_string())
    .bind(&idempotency.key)
    .bind(&idempotency.request_hash)
    .bind(sandbox.as_str())
    .bind(Utc::now().timestamp_micros())
    .execute(connection)
    .await
    .map(drop)
    .map_err(taken("the idempotency key", "note an idempotency key"))
}
