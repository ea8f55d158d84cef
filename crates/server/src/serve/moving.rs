//! `tidings move`: which stores, who copies, and what is said about it.
//!
//! The data directory of a running server is open in that server, so there the server copies, asked through its
//! control socket. Everything else is copied by the command itself. Next: [`crate::moving`].

use std::path::Path;
use std::sync::Arc;

use tidings_store::Movable;
use tidings_store_cql::CqlStore;
use tidings_store_embedded::EmbeddedStore;

use super::{control, store_settings, stores};
use crate::config::{Settings, Sources, StoreKind, load};
use crate::moving::{Move, Round, Say};

/// Logs copied side by side.
const LOGS_AT_ONCE: usize = 16;
/// And by a server that has clients to serve.
const LOGS_AT_ONCE_SERVING: usize = 4;
/// A move is in no hurry: a cluster that is slow under all the writing is waited for.
const REQUEST_TIMEOUT_MS_MIN: u64 = 10_000;
const PATIENCE_MS_MIN: u64 = 120_000;

/// Does one round of a move from the store that `own` names into the one that the file `to` names. With
/// `stopped` the caller vouches that no server of a cluster runs any more. Answers whether all is well.
///
/// # Errors
/// Says why the round broke off.
pub fn move_to(own: &Settings, to: &Path, stopped: bool) -> Result<bool, String> {
    let to = std::path::absolute(to).map_err(text)?;
    let other = settings_of(&to)?;
    let data = Path::new(&own.server.data);
    check_kinds(own, &other)?;
    if own.store.kind == StoreKind::Embedded
        && let Some(answer) = control::ask_to_move(data, &to, |line| println!("{line}"))?
    {
        println!("{answer}");
        return Ok(true);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(text)?;
    let is_last = own.store.kind == StoreKind::Embedded || stopped;
    runtime.block_on(async {
        let source: Arc<dyn Movable> = match own.store.kind {
            StoreKind::Embedded if !data.is_dir() => {
                return Err(format!("there is no data directory {}", data.display()));
            }
            _ => open(own).await?,
        };
        let say: Say = Arc::new(|line| {
            println!("{line}");
            true
        });
        let round = Move {
            source,
            target: open(&other).await?,
            is_last,
            logs_at_once: LOGS_AT_ONCE,
            say,
        }
        .round()
        .await
        .map_err(text)?;
        let is_well = round.differences_count == 0 && (round.left == 0 || !is_last);
        println!("{}", told(&round, is_last, &to));
        Ok(is_well)
    })
}

/// The same round, done by the server whose store it is.
pub(super) async fn from_running(
    source: Arc<EmbeddedStore>,
    to: &Path,
    say: Say,
) -> Result<String, String> {
    let other = settings_of(to)?;
    if other.store.kind != StoreKind::Cassandra {
        return Err(SAME_KIND.to_owned());
    }
    let round = Move {
        source,
        target: open(&other).await?,
        is_last: false,
        logs_at_once: LOGS_AT_ONCE_SERVING,
        say,
    }
    .round()
    .await
    .map_err(text)?;
    if round.differences_count > 0 {
        return Err(told(&round, false, to));
    }
    Ok(told(&round, false, to))
}

const SAME_KIND: &str = "a deployment is moved from an embedded store into Cassandra or back (`store.kind`); copies of \
                         one kind are what `tidings backup` and the cluster's own tools make";

fn check_kinds(own: &Settings, other: &Settings) -> Result<(), String> {
    if own.store.kind == other.store.kind {
        return Err(SAME_KIND.to_owned());
    }
    Ok(())
}

/// The settings of the target: of the file alone, for the environment is that of the source.
fn settings_of(path: &Path) -> Result<Settings, String> {
    load(&Sources {
        file: Some(path.to_owned()),
        ..Sources::default()
    })
    .map_err(text)
}

async fn open(settings: &Settings) -> Result<Arc<dyn Movable>, String> {
    match settings.store.kind {
        StoreKind::Embedded => {
            let data = Path::new(&settings.server.data);
            let store = EmbeddedStore::open(data, store_settings(&settings.store));
            Ok(Arc::new(store.map_err(text)?))
        }
        StoreKind::Cassandra => {
            let mut patient = settings.clone();
            let cassandra = &mut patient.cassandra;
            cassandra.request_timeout_ms = cassandra.request_timeout_ms.max(REQUEST_TIMEOUT_MS_MIN);
            cassandra.patience_ms = cassandra.patience_ms.max(PATIENCE_MS_MIN);
            let cql = stores::cql_settings(&patient).map_err(text)?;
            let store = CqlStore::open(cql).await;
            Ok(Arc::new(
                store.map_err(|error| format!("Cassandra: {error}"))?,
            ))
        }
    }
}

fn told(round: &Round, is_last: bool, to: &Path) -> String {
    let mut text = round.told();
    let left = round.left;
    let next = match (is_last, round.differences_count) {
        (_, 1..) => "The target does not equal the source: do not serve it.".to_owned(),
        (true, _) if left > 0 => {
            "Servers of the source still run: stop them all, and run the same command again."
                .to_owned()
        }
        (true, _) => format!(
            "All is moved. Start the servers with {}; do not start those of the source again.",
            to.display()
        ),
        (false, _) => format!(
            "The source's servers run, so this was not the last round ({} conversations that keep messages only until \
             they are delivered go with the last). Stop them, and run the same command again (where they are a \
             cluster's: with --stopped).",
            round.logs_for_the_last
        ),
    };
    text.push_str(&format!("{left} left\n{next}"));
    text
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
