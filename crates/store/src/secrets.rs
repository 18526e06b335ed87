//! The table of secrets: values only ever in it sealed.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use soulbox_model::{
    SecretId, SecretValue, TeamId,
    network::{Pattern, SecretName},
};
use sqlx::{Row, Sqlite, SqliteConnection, Transaction, sqlite::SqliteRow};

use crate::{
    Error, Result, Store,
    busy::patiently,
    sandboxes::taken,
    time::from_micros,
    vault::{Sealed, Vault},
};

/// Secrets of one team, at most.
const PER_TEAM: u32 = 1000;
/// What the error of one secret more than may be says.
pub const SECRETS_FULL: &str = "a team has at most 1000 secrets: delete one first";
const WHAT: &str = "secret";

macro_rules! columns {
    () => {
        "id, team_id, name, version, metadata, hosts, key_id, sealed, created_at, updated_at"
    };
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub id: SecretId,
    pub team: TeamId,
    pub name: SecretName,
    /// 1, and one more with each new value.
    pub version: u32,
    pub metadata: BTreeMap<String, String>,
    /// Where the value may be sent; empty: wherever a rule of its team says.
    pub hosts: Vec<Pattern>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// How a caller names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    Id(SecretId),
    Name(SecretName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSecret {
    pub name: SecretName,
    pub value: SecretValue,
    pub metadata: BTreeMap<String, String>,
    pub hosts: Vec<Pattern>,
}

/// What is to be different; `None` leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretChange {
    pub value: Option<SecretValue>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub hosts: Option<Vec<Pattern>>,
}

/// What a change of the key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Names the key in use; it is no secret.
    pub key_id: String,
    /// Secrets sealed anew.
    pub secrets: u64,
}

struct Stored {
    secret: Secret,
    sealed: Sealed,
}

impl Store {
    /// # Errors
    /// [`Error::Taken`] for a name that the team has, [`Error::Full`].
    pub async fn create_secret(&self, team: TeamId, new: NewSecret) -> Result<Secret> {
        let NewSecret { name, value, metadata, hosts } = new;
        let mut transaction = self.change_secrets("make a secret").await?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM secret WHERE team_id = $1")
            .bind(team.to_string())
            .fetch_one(&mut *transaction)
            .await
            .map_err(Error::database("count secrets"))?;
        if count >= i64::from(PER_TEAM) {
            return Err(Error::Full(SECRETS_FULL));
        }
        let now = from_micros(WHAT, Utc::now().timestamp_micros())?;
        let secret = Secret {
            id: SecretId::random(),
            team,
            name,
            version: 1,
            metadata,
            hosts,
            created_at: now,
            updated_at: now,
        };
        let sealed = self.vault.seal(&value, &context(&secret)?)?;
        sqlx::query(concat!(
            "INSERT INTO secret (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        ))
        .bind(secret.id.as_str())
        .bind(team.to_string())
        .bind(secret.name.as_str())
        .bind(i64::from(secret.version))
        .bind(json(&secret.metadata)?)
        .bind(json(&secret.hosts)?)
        .bind(&sealed.key_id)
        .bind(&sealed.text)
        .bind(secret.created_at.timestamp_micros())
        .bind(secret.updated_at.timestamp_micros())
        .execute(&mut *transaction)
        .await
        .map_err(taken("the name of the secret", "make a secret"))?;
        transaction.commit().await.map_err(Error::database("make a secret"))?;
        Ok(secret)
    }

    /// `None` if the team has no such secret.
    pub async fn change_secret(
        &self,
        team: TeamId,
        which: &SecretRef,
        change: SecretChange,
    ) -> Result<Option<Secret>> {
        let mut transaction = self.change_secrets("change a secret").await?;
        let Some(Stored { mut secret, sealed }) = find(&mut transaction, team, which).await? else {
            return Ok(None);
        };
        let old = context(&secret)?;
        let value = match change.value {
            Some(value) => {
                secret.version = secret.version.saturating_add(1);
                value
            }
            // What it is bound to is sealed with it.
            None => self.vault.open(&sealed, &old)?,
        };
        secret.metadata = change.metadata.unwrap_or(secret.metadata);
        secret.hosts = change.hosts.unwrap_or(secret.hosts);
        secret.updated_at = from_micros(WHAT, Utc::now().timestamp_micros())?;
        let sealed = self.vault.seal(&value, &context(&secret)?)?;
        sqlx::query(
            "UPDATE secret SET version = $2, metadata = $3, hosts = $4, key_id = $5, sealed = $6, \
             updated_at = $7 WHERE id = $1",
        )
        .bind(secret.id.as_str())
        .bind(i64::from(secret.version))
        .bind(json(&secret.metadata)?)
        .bind(json(&secret.hosts)?)
        .bind(&sealed.key_id)
        .bind(&sealed.text)
        .bind(secret.updated_at.timestamp_micros())
        .execute(&mut *transaction)
        .await
        .map_err(Error::database("change a secret"))?;
        transaction.commit().await.map_err(Error::database("change a secret"))?;
        Ok(Some(secret))
    }

    pub async fn find_secret(&self, team: TeamId, which: &SecretRef) -> Result<Option<Secret>> {
        let mut reader = self.reader.acquire().await.map_err(Error::database("find a secret"))?;
        Ok(find(&mut reader, team, which).await?.map(|stored| stored.secret))
    }

    /// With its value.
    pub async fn open_secret(
        &self,
        team: TeamId,
        which: &SecretRef,
    ) -> Result<Option<(Secret, SecretValue)>> {
        let mut reader = self.reader.acquire().await.map_err(Error::database("open a secret"))?;
        let Some(Stored { secret, sealed }) = find(&mut reader, team, which).await? else {
            return Ok(None);
        };
        drop(reader);
        if !self.vault.knows(&sealed.key_id) {
            // Another process changed the key.
            self.with_vault(Vault::reload).await?;
        }
        let value = self.vault.open(&sealed, &context(&secret)?)?;
        Ok(Some((secret, value)))
    }

    /// A team's secrets in the order of their names, those after `after`, at most `limit`.
    pub async fn list_secrets(
        &self,
        team: TeamId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<Secret>> {
        sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM secret WHERE team_id = $1 AND name > $2 ORDER BY name LIMIT $3"
        ))
        .bind(team.to_string())
        .bind(after.map_or("", SecretName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await
        .map_err(Error::database("list secrets"))?
        .iter()
        .map(|row| stored(row).map(|stored| stored.secret))
        .collect()
    }

    /// Returns whether the team had it.
    pub async fn delete_secret(&self, team: TeamId, which: &SecretRef) -> Result<bool> {
        patiently(|| async {
            let (sql, text) = match which {
                SecretRef::Id(id) => {
                    ("DELETE FROM secret WHERE team_id = $1 AND id = $2", id.as_str())
                }
                SecretRef::Name(name) => {
                    ("DELETE FROM secret WHERE team_id = $1 AND name = $2", name.as_str())
                }
            };
            sqlx::query(sql)
                .bind(team.to_string())
                .bind(text)
                .execute(&self.writer)
                .await
                .map(|done| done.rows_affected() == 1)
                .map_err(Error::database("delete a secret"))
        })
        .await
    }

    /// Seals every secret of every team, and the passwords of proxies, with a fresh key, and forgets the old ones.
    ///
    /// The fresh key is on disk before anything is sealed with it, and an old one goes only when
    /// nothing in the database needs it: wherever this stops, every secret can be opened, and the
    /// next call finishes the work.
    pub async fn rotate_vault_key(&self) -> Result<Rotation> {
        const DOING: &str = "seal secrets anew";
        let mut transaction = self.change_secrets(DOING).await?;
        let key_id = self.with_vault(Vault::add_key).await?;
        let rows = sqlx::query(concat!("SELECT ", columns!(), " FROM secret"))
            .fetch_all(&mut *transaction)
            .await
            .map_err(Error::database(DOING))?;
        let mut secrets = 0;
        for row in &rows {
            let Stored { secret, sealed } = stored(row)?;
            let context = context(&secret)?;
            let sealed = self.vault.seal(&self.vault.open(&sealed, &context)?, &context)?;
            sqlx::query("UPDATE secret SET key_id = $2, sealed = $3 WHERE id = $1")
                .bind(secret.id.as_str())
                .bind(&sealed.key_id)
                .bind(&sealed.text)
                .execute(&mut *transaction)
                .await
                .map_err(Error::database(DOING))?;
            secrets += 1;
        }
        self.reseal_networks(&mut transaction, DOING).await?;
        transaction.commit().await.map_err(Error::database(DOING))?;
        self.retire_vault_keys().await?;
        Ok(Rotation { key_id, secrets })
    }

    async fn retire_vault_keys(&self) -> Result<()> {
        const DOING: &str = "forget old keys of secrets";
        let mut transaction = self.change_secrets(DOING).await?;
        let in_use = "SELECT key_id FROM secret \
                      UNION SELECT network_key FROM sandbox WHERE network_key IS NOT NULL";
        let needed: Vec<String> = sqlx::query_scalar(in_use)
            .fetch_all(&mut *transaction)
            .await
            .map_err(Error::database(DOING))?;
        self.with_vault(move |vault| vault.retire(&needed)).await?;
        transaction.commit().await.map_err(Error::database(DOING))
    }

    /// The write lock of the database, and the keys as they are under it.
    pub(crate) async fn change_secrets(
        &self,
        doing: &'static str,
    ) -> Result<Transaction<'_, Sqlite>> {
        let begin = || self.writer.begin_with("BEGIN IMMEDIATE");
        let transaction =
            patiently(|| async { begin().await.map_err(Error::database(doing)) }).await?;
        self.with_vault(Vault::reload).await?;
        Ok(transaction)
    }

    pub(crate) async fn with_vault<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Vault) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let vault = Arc::clone(&self.vault);
        tokio::task::spawn_blocking(move || work(&vault)).await.map_err(|error| {
            let path = std::path::Path::new("vault.key");
            Error::io("use", path)(std::io::Error::other(error))
        })?
    }
}

async fn find(
    connection: &mut SqliteConnection,
    team: TeamId,
    which: &SecretRef,
) -> Result<Option<Stored>> {
    let (sql, text) = match which {
        SecretRef::Id(id) => (
            concat!("SELECT ", columns!(), " FROM secret WHERE team_id = $1 AND id = $2"),
            id.as_str(),
        ),
        SecretRef::Name(name) => (
            concat!("SELECT ", columns!(), " FROM secret WHERE team_id = $1 AND name = $2"),
            name.as_str(),
        ),
    };
    sqlx::query(sql)
        .bind(team.to_string())
        .bind(text)
        .fetch_optional(connection)
        .await
        .map_err(Error::database("find a secret"))?
        .as_ref()
        .map(stored)
        .transpose()
}

/// What a value is sealed to: whoever can write the database can neither give it to another team
/// or name nor bind it to other hosts.
fn context(secret: &Secret) -> Result<Vec<u8>> {
    let version = secret.version.to_string();
    let hosts = json(&secret.hosts)?;
    let parts = [
        &secret.team.to_string(),
        secret.id.as_str(),
        secret.name.as_str(),
        version.as_str(),
        hosts.as_str(),
    ];
    let mut context = Vec::new();
    for part in parts {
        context.extend_from_slice(&(part.len() as u64).to_be_bytes());
        context.extend_from_slice(part.as_bytes());
    }
    Ok(context)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::corrupt(WHAT))
}

fn stored(row: &SqliteRow) -> Result<Stored> {
    let get = || -> Result<_, sqlx::Error> {
        let texts: [String; 7] = [
            row.try_get("id")?,
            row.try_get("team_id")?,
            row.try_get("name")?,
            row.try_get("metadata")?,
            row.try_get("hosts")?,
            row.try_get("key_id")?,
            row.try_get("sealed")?,
        ];
        let numbers: [i64; 3] =
            [row.try_get("version")?, row.try_get("created_at")?, row.try_get("updated_at")?];
        Ok((texts, numbers))
    };
    let (texts, [version, created_at, updated_at]) =
        get().map_err(Error::database("read a secret"))?;
    let [id, team, name, metadata, hosts, key_id, text] = texts;
    let secret = Secret {
        id: id.parse().map_err(Error::corrupt(WHAT))?,
        team: team.parse().map_err(Error::corrupt(WHAT))?,
        name: name.parse().map_err(Error::corrupt(WHAT))?,
        version: version.try_into().map_err(Error::corrupt(WHAT))?,
        metadata: serde_json::from_str(&metadata).map_err(Error::corrupt(WHAT))?,
        hosts: serde_json::from_str(&hosts).map_err(Error::corrupt(WHAT))?,
        created_at: from_micros(WHAT, created_at)?,
        updated_at: from_micros(WHAT, updated_at)?,
    };
    Ok(Stored { secret, sealed: Sealed { key_id, text } })
}
