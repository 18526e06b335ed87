//! A second team for as long as the attacks take: whoever holds its key must see nothing of others.

use soulbox_model::TeamId;
use soulbox_store::Store;

use crate::{
    data_dir::DataDir,
    failure::{Failure, Result},
};

#[derive(Debug)]
pub(super) struct Stranger {
    store: Store,
    team: TeamId,
    pub(super) key: String,
}

impl Stranger {
    pub(super) async fn open(data_dir: &DataDir) -> Result<Self> {
        let failed = |error| Failure::from(soulbox_model::Error::from(error));
        let store = Store::open(data_dir.database()).await.map_err(failed)?;
        let team = store.make_passing_team("stranger").await.map_err(failed)?;
        match store.create_key(team, "stranger", None).await {
            Ok(made) => Ok(Self { store, team, key: made.plain }),
            Err(error) => {
                remove(&store, team).await;
                store.close().await;
                Err(failed(error))
            }
        }
    }

    pub(super) async fn close(self) {
        remove(&self.store, self.team).await;
        self.store.close().await;
    }
}

async fn remove(store: &Store, team: TeamId) {
    if let Err(error) = store.remove_passing_team(team).await {
        tracing::warn!(%team, %error, "the team of the attacks stays behind");
    }
}
