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
    /// [`Error::NameTaken`] for one that leads to another sandbox, or led to one of another team less than
    /// a day ago and was not given up; nothing is changed then.
    pub async fn set_domains(&self, id: &SandboxId, names: &[Domain], port: Port) -> Result<bool> {
        const DOING: &str = "name a sandbox";
        patiently(|| async {
            let failed = || Error::database(DOING);
            let mut transaction =
                self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
            let team = "SELECT team_id FROM sandbox WHERE id = $1 AND state <> 'ending'";
            let team: Option<String> = sqlx::query_scalar(team)
                .bind(id.as_str())
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed())?;
            let Some(team) = team else { return Ok(false) };
            // What was left long ago is anybody's, and so is what is given up, at once.
            sqlx::query("DELETE FROM domain_owner WHERE left_at < unixepoch() - 86400")
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
            for forget in [
                "DELETE FROM domain_owner WHERE name IN (SELECT name FROM domain WHERE sandbox_id = $1)",
                "DELETE FROM domain WHERE sandbox_id = $1",
            ] {
                sqlx::query(forget)
                    .bind(id.as_str())
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed())?;
            }
            for name in names {
                take(&mut transaction, (id, &team), name, port).await?;
            }
            transaction.commit().await.map_err(failed())?;
            Ok(true)
        })
        .await
    }

    /// Every name of every sandbox, those apart that cannot be read.
    pub async fn domains(&self) -> Result<Vec<DomainRow>> {
        let rows = sqlx::query("SELECT name, sandbox_id, port FROM domain ORDER BY name")
            .fetch_all(&self.reader)
            .await
            .map_err(Error::database("list domains"))?;
        let read = |row: &sqlx::sqlite::SqliteRow| -> Result<DomainRow> {
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
        let told = |error: &Error| tracing::warn!(%error, "a name of a sandbox is left out");
        Ok(rows.iter().filter_map(|row| read(row).inspect_err(told).ok()).collect())
    }
}

async fn take(
    transaction: &mut Transaction<'_, Sqlite>,
    (id, team): (&SandboxId, &str),
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
    let owned = "INSERT INTO domain_owner (name, team_id) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET left_at = NULL WHERE team_id = $2";
    let owned = sqlx::query(owned).bind(name.as_str()).bind(team).execute(&mut **transaction).await;
    if owned.map_err(failed())?.rows_affected() == 0 {
        return Err(Error::NameTaken(name.to_string()));
    }
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
