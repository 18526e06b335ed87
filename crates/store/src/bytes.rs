//! The table of what sandboxes used of their limits of bytes.

use soulbox_model::{SandboxId, network::BytesUsed};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Error, Result, Store, busy::patiently};

const WHAT: &str = "count of bytes";
/// Counts that are written at a time: others write in between.
const AT_ONCE: usize = 1000;

impl Store {
    /// Notes what sandboxes used of limits up to now. Those that are gone are left out.
    ///
    /// # Errors
    /// If the database fails; the first of many may be noted then.
    pub async fn save_bytes(&self, used: &[(&SandboxId, &BytesUsed)]) -> Result<()> {
        for part in used.chunks(AT_ONCE) {
            patiently(|| self.save_part(part)).await?;
        }
        Ok(())
    }

    async fn save_part(&self, part: &[(&SandboxId, &BytesUsed)]) -> Result<()> {
        let failed = || Error::database("note what sandboxes sent out");
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for (id, used) in part {
            insert(&mut transaction, id, used).await?;
        }
        transaction.commit().await.map_err(failed())
    }

    /// What every sandbox used, those counts apart that cannot be read.
    pub async fn bytes_used(&self) -> Result<Vec<(SandboxId, BytesUsed)>> {
        let rows = sqlx::query("SELECT sandbox_id, destination, sent, received FROM bytes_used")
            .fetch_all(&self.reader)
            .await
            .map_err(Error::database("list counts of bytes"))?;
        let told = |error: &Error| tracing::warn!(%error, "a count of bytes is left out");
        Ok(rows.iter().filter_map(|row| read(row).inspect_err(told).ok()).collect())
    }
}

/// Replaces what is noted of a sandbox by `used`.
pub(crate) async fn replace(
    connection: &mut SqliteConnection,
    id: &SandboxId,
    used: &[BytesUsed],
) -> Result<()> {
    sqlx::query("DELETE FROM bytes_used WHERE sandbox_id = $1")
        .bind(id.as_str())
        .execute(&mut *connection)
        .await
        .map_err(Error::database("forget counts of bytes"))?;
    for used in used {
        insert(connection, id, used).await?;
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, id: &SandboxId, used: &BytesUsed) -> Result<()> {
    // More than fits was never sent.
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO bytes_used (sandbox_id, destination, sent, received) \
         SELECT id, $2, $3, $4 FROM sandbox WHERE id = $1 \
         ON CONFLICT (sandbox_id, destination) \
         DO UPDATE SET sent = excluded.sent, received = excluded.received",
    )
    .bind(id.as_str())
    .bind(used.destination.to_string())
    .bind(number(used.sent))
    .bind(number(used.received))
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::database("note a count of bytes"))
}

fn read(row: &SqliteRow) -> Result<(SandboxId, BytesUsed)> {
    let get = || -> Result<(String, String, i64, i64), sqlx::Error> {
        let (id, destination) = (row.try_get("sandbox_id")?, row.try_get("destination")?);
        Ok((id, destination, row.try_get("sent")?, row.try_get("received")?))
    };
    let (id, destination, sent, received) = get().map_err(Error::database("read a count"))?;
    let used = BytesUsed {
        destination: destination.parse().map_err(Error::corrupt(WHAT))?,
        sent: sent.try_into().map_err(Error::corrupt(WHAT))?,
        received: received.try_into().map_err(Error::corrupt(WHAT))?,
    };
    Ok((id.parse().map_err(Error::corrupt(WHAT))?, used))
}
