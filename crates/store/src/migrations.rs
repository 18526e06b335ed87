//! The tables, version by version.

use sqlx::{
    SqlSafeStr, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::Result;

/// Never edit one that was released: databases remember the checksum of each that they ran.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "foundation", include_str!("../migrations/0001_foundation.sql")),
    (2, "network", include_str!("../migrations/0002_network.sql")),
    (3, "secrets", include_str!("../migrations/0003_secrets.sql")),
    (4, "authority", include_str!("../migrations/0004_authority.sql")),
    (5, "domains", include_str!("../migrations/0005_domains.sql")),
    (6, "bytes", include_str!("../migrations/0006_bytes.sql")),
    (7, "sealed", include_str!("../migrations/0007_sealed.sql")),
];

pub(crate) async fn run(pool: &SqlitePool) -> Result<()> {
    let migrations = MIGRATIONS
        .iter()
        .map(|&(version, name, sql)| {
            let no_transaction = false;
            Migration::new(
                version,
                name.into(),
                MigrationType::Simple,
                sql.into_sql_str(),
                no_transaction,
            )
        })
        .collect();
    Migrator::with_migrations(migrations).run(pool).await?;
    Ok(())
}
