//! The table of names that lead to sandboxes.

use soulbox_model::{Port, SandboxId, network::Domain};
use sqlx::{Row, Sqlite, Transaction};

use crate::{Error, Result, Store, busy::patiently};

const WHAT: &str = "domain";

/// A name and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRow {
    pub name: Domain,
    pub sandbox: SandboxId,
    pub port: Port,
}

impl Store {
    /// Replaces the names that lead to a port of a sandbox. Returns whether there is such a sandbox
    /// that does not end.
    ///
    /// # Errors
    /// [`Error::NameTaken`] for one that leads to another sandbox; nothing is changed then.
    pub async fn set_domains(&self, id: &SandboxId, names: &[Domain], port: Port) -> Result<bool> {
        const DOING: &str = "name a sandbox";
        patiently(|| async {
            let failed = || Error::database(DOING);
            let mut transaction =
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
            let alive = "SELECT COUNT(*) FROM sandbox WHERE id = $1 AND state <> 'ending'";
            let alive: i64 = sqlx::query_scalar(alive)
                .bind(id.as_str())
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed())?;
            if alive == 0 {
                return Ok(false);
            }
            sqlx::query("DELETE FROM domain WHERE sandbox_id = $1")
                .bind(id.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
            for name in names {
                take(&mut transaction, id, name, port).await?;
            }
            transaction.commit().await.map_err(failed())?;
            Ok(true)
        })
        .await
    }

    /// Every name of every sandbox.
    pub async fn domains(&self) -> Result<Vec<DomainRow>> {
        let rows = sqlx::query("SELECT name, sandbox_id, port FROM domain ORDER BY name")
            .fetch_all(&self.reader)
            .await
            .map_err(Error::database("list domains"))?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let get = || -> Result<(String, String, u16), sqlx::Error> {
                Ok((row.try_get("name")?, row.try_get("sandbox_id")?, row.try_get("port")?))
            };
            let (name, sandbox, port) = get().map_err(Error::database("read a domain"))?;
            Ok(DomainRow {
                name: name.parse().map_err(Error::corrupt(WHAT))?,
                sandbox: sandbox.parse().map_err(Error::corrupt(WHAT))?,
                port: Port::new(port).ok_or("port 0").map_err(Error::corrupt(WHAT))?,
            })
        };
        rows.iter().map(read).collect()
    }
}

async fn take(
    transaction: &mut Transaction<'_, Sqlite>,
    id: &SandboxId,
    name: &Domain,
    port: Port,
) -> Result<()> {
    let failed = || Error::database("name a sandbox");
    // One that ends is reached by nobody any more.
    sqlx::query(
        "DELETE FROM domain WHERE name = $1 \
         AND sandbox_id IN (SELECT id FROM sandbox WHERE state = 'ending')",
    )
    .bind(name.as_str())
    .execute(&mut **transaction)
    .await
    .map_err(failed())?;
    sqlx::query("INSERT INTO domain (name, sandbox_id, port) VALUES ($1, $2, $3)")
        .bind(name.as_str())
        .bind(id.as_str())
        .bind(i64::from(port.get()))
        .execute(&mut **transaction)
        .await
        .map(drop)
        .map_err(|error| match &error {
            sqlx::Error::Database(refused) if refused.is_unique_violation() => {
                Error::NameTaken(name.to_string())
            }
            _ => failed()(error),
        })
}
