//! Which store the server runs on, and how it is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidings_store::Store;
use tidings_store::memory::MemoryStore;
use tidings_store_cql::{CqlStore, Replication};
use tidings_store_embedded::EmbeddedStore;

use super::looks::StoreBacklog;
use super::{ServeError, control, spawn, store_settings};
use crate::cluster::StoreTime;
use crate::config::{CassandraSettings, Settings, StoreKind};
use crate::moving::may_serve;

/// A store that is open.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// The time by the store's clock, if it is another machine's. Other servers may share such a store.
    pub(super) time: Option<StoreTime>,
    /// What waits in it, if it is embedded.
    pub(super) backlog: Option<StoreBacklog>,
}

impl Opened {
    fn embedded(store: Arc<EmbeddedStore>) -> Opened {
        let weak = Arc::downgrade(&store);
        let backlog = move || weak.upgrade().map(|store| store.backlog());
        Opened {
            store,
            time: None,
            backlog: Some(Box::new(backlog)),
        }
    }
}

pub(super) async fn open(settings: &Settings, in_memory: bool) -> Result<Opened, ServeError> {
    if in_memory {
        tracing::warn!("everything is kept in memory and gone with the process");
        let store = Arc::new(MemoryStore::new());
        return Ok(Opened {
            store,
            time: None,
            backlog: None,
        });
    }
    match settings.store.kind {
        StoreKind::Embedded => {
            let data = Path::new(&settings.server.data);
            let store = Arc::new(EmbeddedStore::open(data, store_settings(&settings.store))?);
            may_serve(&*store).await?;
            spawn("control", control::serve(data.to_owned(), store.clone()));
            Ok(Opened::embedded(store))
        }
        StoreKind::Cassandra => {
            let store = CqlStore::open(cql_settings(settings)?).await;
            let store = Arc::new(store.map_err(ServeError::Cassandra)?);
            may_serve(&*store).await?;
            let clock = store.clone();
            let time: StoreTime = Arc::new(move || {
                let clock = clock.clone();
                Box::pin(async move { clock.time().await.ok() })
            });
            Ok(Opened {
                store,
                time: Some(time),
                backlog: None,
            })
        }
    }
}

/// Makes the keyspace and the tables of a cluster. Answers what was done.
///
/// # Errors
/// When the cluster cannot be reached, or holds a newer format.
pub fn migrate(settings: &Settings) -> Result<String, ServeError> {
    let system = |error| ServeError::System {
        what: "start threads",
        error,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(system)?;
    let (cql, replication) = (cql_settings(settings)?, replication(&settings.cassandra)?);
    let migrated = runtime.block_on(tidings_store_cql::migrate(&cql, &replication));
    migrated.map_err(ServeError::Cassandra)?;
    Ok(format!(
        "the keyspace {} is of format {}",
        cql.keyspace,
        tidings_store_cql::FORMAT
    ))
}

pub(crate) fn cql_settings(settings: &Settings) -> Result<tidings_store_cql::Settings, ServeError> {
    let cassandra = &settings.cassandra;
    let points: Vec<String> = list(&cassandra.contact_points);
    if points.is_empty() {
        return Err(ServeError::Setting {
            setting: "cassandra.contact_points",
            why: "it names no node".to_owned(),
        });
    }
    let mut cql = tidings_store_cql::Settings::new(points, &cassandra.keyspace);
    if !cassandra.user.is_empty() {
        cql.credentials = Some((cassandra.user.clone(), cassandra.password.clone()));
    }
    cql.data_centre = Some(cassandra.data_centre.clone()).filter(|name| !name.is_empty());
    cql.request_timeout = Duration::from_millis(cassandra.request_timeout_ms);
    cql.patience = Duration::from_millis(cassandra.patience_ms);
    const DAY_S: u64 = 24 * 60 * 60;
    let days = settings.store.keep_envelopes_days;
    cql.envelopes_kept = Duration::from_secs(days.saturating_mul(DAY_S));
    Ok(cql)
}

fn replication(cassandra: &CassandraSettings) -> Result<Replication, ServeError> {
    let refuse = || ServeError::Setting {
        setting: "cassandra.replication",
        why: "a number of copies, or one for each data centre (`north:3,south:3`)".to_owned(),
    };
    let copies = |text: &str| -> Result<u8, ServeError> {
        let copies = text.trim().parse::<u8>().map_err(|_| refuse())?;
        if copies == 0 {
            Err(refuse())
        } else {
            Ok(copies)
        }
    };
    if !cassandra.replication.contains(':') {
        return Ok(Replication::Simple(copies(&cassandra.replication)?));
    }
    let centres = list(&cassandra.replication).into_iter().map(|centre| {
        let (name, count) = centre.split_once(':').ok_or_else(refuse)?;
        Ok((name.trim().to_owned(), copies(count)?))
    });
    Ok(Replication::DataCentres(
        centres.collect::<Result<_, ServeError>>()?,
    ))
}

fn list(text: &str) -> Vec<String> {
    let items = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty());
    items.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Replication> {
        let cassandra = CassandraSettings {
            replication: text.to_owned(),
            ..CassandraSettings::default()
        };
        replication(&cassandra).ok()
    }

    #[test]
    fn copies_are_a_number_or_one_for_each_data_centre() {
        assert_eq!(read("3"), Some(Replication::Simple(3)));
        let both = vec![("north".to_owned(), 3), ("south".to_owned(), 2)];
        assert_eq!(
            read("north:3, south:2"),
            Some(Replication::DataCentres(both))
        );
        for wrong in ["", "0", "many", "north:", "north:0", ":"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
