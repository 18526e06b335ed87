//! Teams that exist for a while: a check of this server acts as somebody else's.

use chrono::Utc;
use soulbox_model::TeamId;

use crate::{Error, Result, Store};

impl Store {
    /// Makes a team that [`Store::remove_passing_team`] removes; `purpose` becomes its name.
    pub async fn make_passing_team(&self, purpose: &str) -> Result<TeamId> {
        let team = TeamId::random();
        sqlx::query("INSERT INTO team (id, slug, name, created_at) VALUES ($1, $2, $3, $4)")
            .bind(team.to_string())
            .bind(format!("{purpose}-{team}"))
            .bind(purpose)
            .bind(Utc::now().timestamp_micros())
            .execute(&self.writer)
            .await
            .map_err(Error::database("make a passing team"))?;
        Ok(team)
    }

    /// Removes a team with its keys and with what is noted of its sandboxes, which must have ended.
    pub async fn remove_passing_team(&self, team: TeamId) -> Result<()> {
        let failed = || Error::database("remove a passing team");
        let mut transaction = self.writer.begin().await.map_err(failed())?;
        for statement in [
            "DELETE FROM idempotency WHERE team_id = $1",
            "DELETE FROM sandbox WHERE team_id = $1",
            "DELETE FROM api_key WHERE team_id = $1",
            "DELETE FROM team WHERE id = $1",
        ] {
            sqlx::query(statement)
                .bind(team.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }
}
