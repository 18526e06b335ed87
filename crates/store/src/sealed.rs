//! How the network of a sandbox is written: sealed as secrets are where it holds a password.

use soulbox_model::{SandboxId, network::Network};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};
use zeroize::Zeroizing;

use crate::{
    Error, Result, Store,
    busy::patiently,
    vault::{Sealed, Vault},
};

const WHAT: &str = "sandbox";
/// `user_version` of a database whose free pages hold nothing of before passwords were sealed.
const SCRUBBED: i64 = 1;

/// The columns `network` and `network_key`.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub text: Option<String>,
    pub key_id: Option<String>,
}

/// Whether it holds what nobody may read in the database.
pub(crate) fn is_secret(network: &Network) -> bool {
    network.egress.proxy.as_ref().is_some_and(|proxy| proxy.credentials().is_some())
}

/// To be called under [`Store::change_secrets`] if it [`is_secret`].
pub(crate) fn write(vault: &Vault, id: &SandboxId, network: Option<&Network>) -> Result<Written> {
    let Some(network) = network else { return Ok(Written::default()) };
    let text = Zeroizing::new(serde_json::to_string(network).map_err(Error::corrupt(WHAT))?);
    if !is_secret(network) {
        return Ok(Written { text: Some(text.to_string()), key_id: None });
    }
    let Sealed { key_id, text } = vault.seal_text(&text, &context(id))?;
    Ok(Written { text: Some(text), key_id: Some(key_id) })
}

pub(crate) fn read(vault: &Vault, id: &SandboxId, written: Written) -> Result<Option<Network>> {
    let Some(text) = written.text else { return Ok(None) };
    let text = match written.key_id {
        None => Zeroizing::new(text),
        Some(key_id) => vault.open_text(&Sealed { key_id, text }, &context(id))?,
    };
    serde_json::from_str(&text).map(Some).map_err(Error::corrupt(WHAT))
}

/// No row opens as another sandbox's, nor as a secret, whose context begins with a length.
fn context(id: &SandboxId) -> Vec<u8> {
    format!("network of sandbox {id}").into_bytes()
}

impl Store {
    /// Seals what an older server wrote in clear, and overwrites what it left in free pages.
    pub(crate) async fn seal_networks(&self) -> Result<()> {
        const DOING: &str = "seal the passwords of proxies";
        let in_clear = "SELECT id, network FROM sandbox WHERE network_key IS NULL \
                        AND network LIKE '%\"credentials\":[%'";
        let found = sqlx::query(in_clear).fetch_optional(&self.reader).await;
        if found.map_err(Error::database(DOING))?.is_some() {
            let mut transaction = self.change_secrets(DOING).await?;
            let rows = sqlx::query(in_clear).fetch_all(&mut *transaction).await;
            for row in rows.map_err(Error::database(DOING))? {
                let get = |column| row.try_get::<String, _>(column).map_err(Error::database(DOING));
                let (id, text) = (get("id")?, Zeroizing::new(get("network")?));
                // What cannot be read is removed with its sandbox.
                let (Ok(id), Ok(network)) = (id.parse(), serde_json::from_str(&text)) else {
                    continue;
                };
                self.rewrite(&mut transaction, &id, &network, DOING).await?;
            }
            transaction.commit().await.map_err(Error::database(DOING))?;
        }
        scrub(&self.writer).await
    }

    /// Seals anew, with the key in use, each network that is sealed.
    pub(crate) async fn reseal_networks(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        doing: &'static str,
    ) -> Result<()> {
        let rows = sqlx::query(
            "SELECT id, network, network_key FROM sandbox WHERE network_key IS NOT NULL",
        )
        .fetch_all(&mut **transaction)
        .await
        .map_err(Error::database(doing))?;
        for row in rows {
            let id: String = row.try_get("id").map_err(Error::database(doing))?;
            let id = id.parse().map_err(Error::corrupt(WHAT))?;
            let written = Written {
                text: row.try_get("network").map_err(Error::database(doing))?,
                key_id: row.try_get("network_key").map_err(Error::database(doing))?,
            };
            if let Some(network) = read(&self.vault, &id, written)? {
                self.rewrite(transaction, &id, &network, doing).await?;
            }
        }
        Ok(())
    }

    async fn rewrite(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        id: &SandboxId,
        network: &Network,
        doing: &'static str,
    ) -> Result<()> {
        let written = write(&self.vault, id, Some(network))?;
        sqlx::query("UPDATE sandbox SET network = $2, network_key = $3 WHERE id = $1")
            .bind(id.as_str())
            .bind(written.text)
            .bind(written.key_id)
            .execute(&mut **transaction)
            .await
            .map(drop)
            .map_err(Error::database(doing))
    }
}

/// Once in the life of a database: writes it anew without its free pages, and empties its log.
async fn scrub(writer: &SqlitePool) -> Result<()> {
    const DOING: &str = "overwrite free pages";
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(writer)
        .await
        .map_err(Error::database(DOING))?;
    if version >= SCRUBBED {
        return Ok(());
    }
    let run = |sql: &'static str| async move {
        patiently(|| async {
            sqlx::query(sql).execute(writer).await.map_err(Error::database(DOING)).map(drop)
        })
        .await
    };
    run("VACUUM").await?;
    let busy: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(writer)
        .await
        .map_err(Error::database(DOING))?;
    // Somebody reads at this moment: the next start tries again.
    if busy == 0 { run("PRAGMA user_version = 1").await } else { Ok(()) }
}
