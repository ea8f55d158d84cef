//! The tables, and how they are made and brought up to date.
//!
//! What may be written to a table, and with which timestamp, is said here: it is what keeps the store
//! exact, and one careless statement breaks it.
//!
//! * `log_rows`: a log, in buckets of [`BUCKET`] entries. Entries, client ids and the bucket's head share a
//!   partition, so that one conditional batch appends. Written by conditional batches alone (mixing plain
//!   writes in would let clocks decide). The head's cell is never deleted: a sleeping append would open the
//!   bucket again.
//! * `bodies_kept`, `bodies_bounded`: the bodies, by retention. Written before the entry, under a number of
//!   the append's own, so that what an append left behind that never happened is nobody's body. Written with
//!   timestamp 1, deleted with 2: a write that lands late finds its grave.
//! * `marks`, `inbox`: a cell's timestamp is the mark's seq, so that "the last write wins" becomes "the highest
//!   wins". **Nothing else may ever write there**: one delete, time to live or write with a clock's timestamp
//!   would hide every later value for ever. `inbox.touched` is the highest time of the inbox's marks, its own
//!   timestamp.
//! * `states`: a conversation's state with its members, one partition, by conditional batches.
//! * `targets`: what alters an entry; derived from the log. Timestamps 1 and 2.
//! * `steps`: the timestamp is minus the time, so that the first step stays.
//! * `logs`: marks of the log itself: where it is trimmed, which bucket is open. As `marks`.
//! * `expiry`: entries that vanish, by the hour. Timestamps 1 and 2.
//! * `documents` by conditional statements alone, and none deletes a row: what is deleted leaves a grave. Notices
//!   are the exception: a plain write each, with a time to live, in partitions of their own.
//!   `document_fronts` is an index for scans that may list too much.
//! * `listed`: lists of partitions: shards of documents, hours of expiry, buckets whose envelopes go on a day.
//!   Timestamps 1 and 2; of hours the clock's, and a day before.
//! * `meta`: the version of all this.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::Statement;
use tidings_core::log::Seq;
use tidings_store::StoreError;

use crate::settings::Replication;

/// Entries in a bucket. On disk: it never changes.
pub(crate) const BUCKET: u64 = 1024;

/// How long one change of the schema may take.
const CHANGE_MAX: Duration = Duration::from_secs(60);

/// The version of the tables that this program reads and writes.
pub const FORMAT: i32 = 1;

/// The bucket in which an entry lies.
pub(crate) fn bucket_of(seq: Seq) -> i64 {
    i64::try_from(seq.saturating_sub(1) / BUCKET).unwrap_or(i64::MAX)
}

/// The first entry of a bucket.
pub(crate) fn first_of(bucket: i64) -> Seq {
    u64::try_from(bucket).unwrap_or(0).saturating_mul(BUCKET) + 1
}

/// The last entry of a bucket.
pub(crate) fn last_of(bucket: i64) -> Seq {
    first_of(bucket).saturating_add(BUCKET - 1)
}

/// When a replica has not answered a read in so long another is asked. By default that is when 99 of 100 reads
/// would have been answered: with one node of three dead those are the slow ones, and "soon" becomes seconds.
const ASK_ANOTHER: &str = "speculative_retry = '30ms'";

const TABLES: [&str; 13] = [
    "CREATE TABLE IF NOT EXISTS log_rows (
        log blob, bucket bigint,
        head bigint static, generation blob static, ordinal bigint static, at bigint static,
        kind tinyint, key blob, data blob,
        PRIMARY KEY ((log, bucket), kind, key))",
    "CREATE TABLE IF NOT EXISTS bodies_kept (
        log blob, bucket bigint, seq bigint, nonce bigint, body blob,
        PRIMARY KEY ((log, bucket), seq, nonce))",
    // Rewritten often, so that what was deleted leaves the disk: see docs/operations/cluster.md. How long graves are kept
    // (`gc_grace_seconds`) has no part in that, and is not shortened: a node that was away for longer brings back
    // what was erased.
    "CREATE TABLE IF NOT EXISTS bodies_bounded (
        log blob, bucket bigint, seq bigint, nonce bigint, body blob,
        PRIMARY KEY ((log, bucket), seq, nonce))
        WITH compaction = {'class': 'LeveledCompactionStrategy'}",
    "CREATE TABLE IF NOT EXISTS marks (
        log blob, owner blob, kind tinyint, lane bigint, value blob,
        PRIMARY KEY ((log), owner, kind, lane))",
    "CREATE TABLE IF NOT EXISTS inbox (
        owner blob, touched bigint static, log blob, kind tinyint, lane bigint, value blob,
        PRIMARY KEY ((owner), log, kind, lane))",
    "CREATE TABLE IF NOT EXISTS states (
        log blob, seq bigint static, state blob static, member blob, data blob,
        PRIMARY KEY ((log), member))",
    "CREATE TABLE IF NOT EXISTS targets (
        log blob, bucket bigint, target bigint, seq bigint, data blob,
        PRIMARY KEY ((log, bucket), target, seq))",
    "CREATE TABLE IF NOT EXISTS steps (
        log blob, bucket bigint, seq bigint, owner blob, kind tinyint, at bigint,
        PRIMARY KEY ((log, bucket), seq, owner, kind))",
    "CREATE TABLE IF NOT EXISTS logs (
        log blob, kind tinyint, value bigint,
        PRIMARY KEY ((log), kind))",
    "CREATE TABLE IF NOT EXISTS expiry (
        hour bigint, shard tinyint, at bigint, log blob, seq bigint, nonce bigint,
        PRIMARY KEY ((hour, shard), at, log, seq, nonce))",
    "CREATE TABLE IF NOT EXISTS documents (
        kind tinyint, front blob, key blob, version bigint, nonce bigint, value blob,
        PRIMARY KEY ((kind, front), key))",
    "CREATE TABLE IF NOT EXISTS document_fronts (
        kind tinyint, shard blob, front blob,
        PRIMARY KEY ((kind, shard), front))",
    "CREATE TABLE IF NOT EXISTS listed (
        list tinyint, part bigint, item blob, data blob,
        PRIMARY KEY ((list, part), item, data))",
];

/// Makes the keyspace if it is not there.
pub(crate) async fn make_keyspace(
    session: &Session,
    keyspace: &str,
    replication: &Replication,
) -> Result<(), StoreError> {
    let options = match replication {
        Replication::Simple(copies) => {
            format!("'class': 'SimpleStrategy', 'replication_factor': {copies}")
        }
        Replication::DataCentres(centres) => {
            let mut options = "'class': 'NetworkTopologyStrategy'".to_owned();
            for (name, copies) in centres {
                check_name(name)?;
                options.push_str(&format!(", '{name}': {copies}"));
            }
            options
        }
    };
    check_name(keyspace)?;
    let statement =
        format!("CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {{{options}}}");
    change(session, &statement).await
}

/// Makes the tables that are not there and writes down the version.
pub(crate) async fn make_tables(session: &Session) -> Result<(), StoreError> {
    change(
        session,
        "CREATE TABLE IF NOT EXISTS meta (name text, value int, PRIMARY KEY ((name)))",
    )
    .await?;
    for table in TABLES {
        let with = if table.contains(" WITH ") {
            "AND"
        } else {
            "WITH"
        };
        change(session, &format!("{table} {with} {ASK_ANOTHER}")).await?;
    }
    change(
        session,
        &format!("INSERT INTO meta (name, value) VALUES ('format', {FORMAT}) IF NOT EXISTS"),
    )
    .await
}

/// The version of the tables in a keyspace, `None` if they were never made.
pub(crate) async fn format(session: &Session) -> Result<Option<i32>, StoreError> {
    let answer = session
        .query_unpaged("SELECT value FROM meta WHERE name = 'format'", &[])
        .await;
    let rows = match answer {
        Ok(answer) => answer
            .into_rows_result()
            .map_err(|error| StoreError::Damaged(error.to_string()))?,
        // The table itself is not there.
        Err(ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::Invalid,
            message,
        ))) if message.contains("meta") => return Ok(None),
        Err(error) => return Err(StoreError::Unavailable(error.to_string())),
    };
    let row = rows
        .maybe_first_row::<(i32,)>()
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    Ok(row.map(|(value,)| value))
}

/// A name that can stand in a statement as it is.
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if name.is_empty() || name.len() > 48 || !name.chars().all(plain) {
        return Err(StoreError::Misuse(format!(
            "'{name}' is no name for a keyspace or a data centre: letters, digits, _ and -, at most 48"
        )));
    }
    Ok(())
}

async fn change(session: &Session, statement: &str) -> Result<(), StoreError> {
    let mut statement = Statement::new(statement);
    // All nodes have to agree, which takes its time.
    statement.set_request_timeout(Some(CHANGE_MAX));
    session
        .query_unpaged(statement, &[])
        .await
        .map(|_| ())
        .map_err(|error| StoreError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_on_each_other() {
        assert_eq!([bucket_of(0), bucket_of(1), bucket_of(BUCKET)], [0, 0, 0]);
        assert_eq!(bucket_of(BUCKET + 1), 1);
        for bucket in [0, 1, 7] {
            assert_eq!(bucket_of(first_of(bucket)), bucket);
            assert_eq!(bucket_of(last_of(bucket)), bucket);
            assert_eq!(first_of(bucket + 1), last_of(bucket) + 1);
        }
    }

    #[test]
    fn names_that_could_end_a_statement_are_refused() {
        for name in ["", "a b", "x'; DROP KEYSPACE y; --", "\"", &"n".repeat(49)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("tidings_1").is_ok());
    }
}
