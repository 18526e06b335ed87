//! The table of sandboxes.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use soulbox_faults::point;
use soulbox_model::{
    Resources, SandboxId, TeamId, TemplateId,
    network::{BytesUsed, Network},
};
use sqlx::{Row, Sqlite, SqliteConnection, Transaction, sqlite::SqliteRow};

use crate::{
    Error, Idempotency, Result, Store,
    busy::patiently,
    bytes, idempotency,
    sealed::{self, Written},
    time::from_micros,
    vault::Vault,
};

macro_rules! columns {
    () => {
        "id, team_id, template_id, template_name, alias, state, metadata, resources, started_at, \
         end_at, secure, auto_pause, allow_internet, envd_version, record, network, network_key, \
         authority"
    };
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxState {
    /// Not handed to anybody yet.
    Creating,
    Running,
    /// Being removed; nobody can use it any more.
    Ending,
}

impl SandboxState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Ending => "ending",
        }
    }
}

impl FromStr for SandboxState {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        [Self::Creating, Self::Running, Self::Ending]
            .into_iter()
            .find(|state| state.as_str() == s)
            .ok_or_else(|| format!("state `{s}`"))
    }
}

/// What outlives the server of a sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxRow {
    pub id: SandboxId,
    pub team: TeamId,
    pub template_id: TemplateId,
    pub template_name: String,
    pub alias: Option<String>,
    pub state: SandboxState,
    pub metadata: BTreeMap<String, String>,
    pub resources: Resources,
    /// Kept to the microsecond, like every time here.
    pub started_at: DateTime<Utc>,
    pub end_at: DateTime<Utc>,
    pub secure: bool,
    pub auto_pause: bool,
    pub allow_internet: Option<bool>,
    pub envd_version: String,
    /// The engine's: how it finds the sandbox again.
    pub record: Option<Value>,
    /// As asked for; `None` where nothing was.
    pub network: Option<Network>,
    /// Certificate and key of the authority that opens TLS for its rules, PEM.
    pub authority: Option<String>,
}

/// All that the table holds.
#[derive(Debug, Default)]
pub struct Loaded {
    pub rows: Vec<SandboxRow>,
    /// Ids of rows that cannot be understood, with the reason.
    pub unreadable: Vec<(String, Error)>,
}

impl Store {
    /// Adds a sandbox, and with it the idempotency key of its request.
    ///
    /// # Errors
    /// [`Error::Taken`] if the id or the team's idempotency key exists; nothing is added then.
    pub async fn insert_sandbox(
        &self,
        row: &SandboxRow,
        request: Option<&Idempotency>,
    ) -> Result<()> {
        patiently(|| async {
            const WHAT: &str = "add a sandbox";
            let network = row.network.as_ref();
            if request.is_none() && !network.is_some_and(sealed::is_secret) {
                let mut connection = self.writer.acquire().await.map_err(Error::database(WHAT))?;
                let network = sealed::write(&self.vault, &row.id, network)?;
                return insert(&mut connection, row, network).await;
            }
            let mut transaction = self.begin_network(network, WHAT).await?;
            let network = sealed::write(&self.vault, &row.id, network)?;
            insert(&mut transaction, row, network).await?;
            if let Some(request) = request {
                point("store.half-inserted");
                idempotency::insert(&mut transaction, row.team, &row.id, request).await?;
            }
            transaction.commit().await.map_err(Error::database(WHAT))
        })
        .await
    }

    /// Notes that a sandbox runs; nothing happens to one that ends already.
    pub async fn set_running(&self, id: &SandboxId) -> Result<()> {
        patiently(|| async {
            sqlx::query("UPDATE sandbox SET state = 'running' WHERE id = $1 AND state = 'creating'")
                .bind(id.as_str())
                .execute(&self.writer)
                .await
                .map(|_| point("store.running"))
                .map_err(Error::database("note that a sandbox runs"))
        })
        .await
    }

    pub async fn set_ending(&self, id: &SandboxId) -> Result<()> {
        patiently(|| async {
            sqlx::query("UPDATE sandbox SET state = 'ending' WHERE id = $1")
                .bind(id.as_str())
                .execute(&self.writer)
                .await
                .map(|_| point("store.ending"))
                .map_err(Error::database("note that a sandbox ends"))
        })
        .await
    }

    pub async fn set_end_at(&self, id: &SandboxId, end_at: DateTime<Utc>) -> Result<()> {
        patiently(|| async {
            sqlx::query("UPDATE sandbox SET end_at = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(end_at.timestamp_micros())
                .execute(&self.writer)
                .await
                .map(|_| point("store.end-moved"))
                .map_err(Error::database("note the end of a sandbox"))
        })
        .await
    }

    /// Notes which authority opens TLS for the rules of a sandbox.
    pub async fn set_authority(&self, id: &SandboxId, pem: &str) -> Result<()> {
        patiently(|| async {
            sqlx::query("UPDATE sandbox SET authority = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(pem)
                .execute(&self.writer)
                .await
                .map(drop)
                .map_err(Error::database("note the authority of a sandbox"))
        })
        .await
    }

    /// Notes what a sandbox may reach from now on, and what of it is `used` already. `allow_internet` of
    /// `None` leaves that flag.
    pub async fn set_network(
        &self,
        id: &SandboxId,
        network: &Network,
        allow_internet: Option<bool>,
        used: &[BytesUsed],
    ) -> Result<()> {
        patiently(|| async {
            const WHAT: &str = "note the network policy of a sandbox";
            let mut transaction = self.begin_network(Some(network), WHAT).await?;
            let written = sealed::write(&self.vault, id, Some(network))?;
            sqlx::query(
                "UPDATE sandbox SET network = $2, network_key = $3, \
                 allow_internet = COALESCE($4, allow_internet) WHERE id = $1",
            )
            .bind(id.as_str())
            .bind(written.text)
            .bind(written.key_id)
            .bind(allow_internet)
            .execute(&mut *transaction)
            .await
            .map_err(Error::database(WHAT))?;
            bytes::replace(&mut transaction, id, used).await?;
            transaction.commit().await.map_err(Error::database(WHAT))?;
            point("store.network");
            Ok(())
        })
        .await
    }

    /// A transaction that may write this network: with the keys as they are now if it is sealed.
    async fn begin_network(
        &self,
        network: Option<&Network>,
        doing: &'static str,
    ) -> Result<Transaction<'_, Sqlite>> {
        if network.is_some_and(sealed::is_secret) {
            return self.change_secrets(doing).await;
        }
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(Error::database(doing))
    }

    /// Removes a sandbox that ended. Its idempotency key stays.
    pub async fn delete_sandbox(&self, id: &SandboxId) -> Result<()> {
        patiently(|| async {
            sqlx::query("DELETE FROM sandbox WHERE id = $1")
                .bind(id.as_str())
                .execute(&self.writer)
                .await
                .map(|_| point("store.removed"))
                .map_err(Error::database("remove a sandbox"))
        })
        .await
    }

    /// Removes a sandbox that was never handed out, with its idempotency key: a repeat starts anew.
    ///
    /// `id` may be one that [`Loaded::unreadable`] names.
    pub async fn forget_sandbox(&self, id: &str) -> Result<()> {
        patiently(|| async {
            let failed = || Error::database("forget a sandbox");
            let mut transaction = self.writer.begin().await.map_err(failed())?;
            for sql in [
                "DELETE FROM idempotency WHERE sandbox_id = $1",
                "DELETE FROM sandbox WHERE id = $1",
            ] {
                sqlx::query(sql).bind(id).execute(&mut *transaction).await.map_err(failed())?;
                point("store.half-forgotten");
            }
            transaction.commit().await.map_err(failed())
        })
        .await
    }

    /// Every sandbox of every team.
    pub async fn sandboxes(&self) -> Result<Loaded> {
        let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM sandbox ORDER BY id"))
            .fetch_all(&self.reader)
            .await
            .map_err(Error::database("list sandboxes"))?;
        let mut loaded = Loaded::default();
        for row in &rows {
            match self.sandbox(row).await {
                Ok(row) => loaded.rows.push(row),
                Err(error) => {
                    let id = row.try_get("id").map_err(Error::database("list sandboxes"))?;
                    loaded.unreadable.push((id, error));
                }
            }
        }
        Ok(loaded)
    }

    async fn sandbox(&self, row: &SqliteRow) -> Result<SandboxRow> {
        let key_id: Option<String> =
            row.try_get("network_key").map_err(Error::database("read a sandbox"))?;
        if key_id.is_some_and(|key| !self.vault.knows(&key)) {
            // Another process changed the key.
            self.with_vault(Vault::reload).await?;
        }
        sandbox(&self.vault, row)
    }
}

/// What a violated uniqueness is called; any other error keeps its own.
pub(crate) fn taken(
    what: &'static str,
    operation: &'static str,
) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| match &source {
        sqlx::Error::Database(error) if error.is_unique_violation() => Error::Taken(what),
        _ => Error::Database { operation, source },
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    row: &SandboxRow,
    network: Written,
) -> Result<()> {
    let metadata = serde_json::to_string(&row.metadata).map_err(Error::corrupt("sandbox"))?;
    let resources = serde_json::to_string(&row.resources).map_err(Error::corrupt("sandbox"))?;
    sqlx::query(concat!(
        "INSERT INTO sandbox (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18)"
    ))
    .bind(row.id.as_str())
    .bind(row.team.to_string())
    .bind(row.template_id.as_str())
    .bind(&row.template_name)
    .bind(row.alias.as_deref())
    .bind(row.state.as_str())
    .bind(metadata)
    .bind(resources)
    .bind(row.started_at.timestamp_micros())
    .bind(row.end_at.timestamp_micros())
    .bind(row.secure)
    .bind(row.auto_pause)
    .bind(row.allow_internet)
    .bind(&row.envd_version)
    .bind(row.record.as_ref().map(Value::to_string))
    .bind(network.text)
    .bind(network.key_id)
    .bind(row.authority.as_deref())
    .execute(connection)
    .await
    .map(|_| point("store.inserted"))
    .map_err(taken("the sandbox id", "add a sandbox"))
}

fn sandbox(vault: &Vault, row: &SqliteRow) -> Result<SandboxRow> {
    const WHAT: &str = "sandbox";
    let text = |column: &str| -> Result<String> {
        row.try_get(column).map_err(Error::database("read a sandbox"))
    };
    let optional = |column: &str| -> Result<Option<String>> {
        row.try_get(column).map_err(Error::database("read a sandbox"))
    };
    let time = |column: &str| -> Result<DateTime<Utc>> {
        let micros = row.try_get(column).map_err(Error::database("read a sandbox"))?;
        from_micros(WHAT, micros)
    };
    let flag = |column: &str| -> Result<Option<bool>> {
        row.try_get(column).map_err(Error::database("read a sandbox"))
    };
    let id = text("id")?.parse().map_err(Error::corrupt(WHAT))?;
    let written = Written { text: optional("network")?, key_id: optional("network_key")? };
    let network = sealed::read(vault, &id, written)?;
    Ok(SandboxRow {
        id,
        team: text("team_id")?.parse().map_err(Error::corrupt(WHAT))?,
        template_id: text("template_id")?.parse().map_err(Error::corrupt(WHAT))?,
        template_name: text("template_name")?,
        alias: optional("alias")?,
        state: text("state")?.parse().map_err(Error::corrupt(WHAT))?,
        metadata: serde_json::from_str(&text("metadata")?).map_err(Error::corrupt(WHAT))?,
        resources: serde_json::from_str(&text("resources")?).map_err(Error::corrupt(WHAT))?,
        started_at: time("started_at")?,
        end_at: time("end_at")?,
        secure: flag("secure")?.unwrap_or(true),
        auto_pause: flag("auto_pause")?.unwrap_or(false),
        allow_internet: flag("allow_internet")?,
        envd_version: text("envd_version")?,
        record: optional("record")?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(Error::corrupt(WHAT))?,
        network,
        authority: optional("authority")?,
    })
}
