//! Requests to the cluster: which statements there are, and how each is tried again.
//!
//! Reads and plain writes may be repeated by anybody at any time, so they are: on another node after a
//! third of a second, and again until the patience ends. A conditional batch is tried once here: who sends
//! it knows how to settle it ([`crate::append`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use scylla::client::execution_profile::{
    ExecutionProfile, ExecutionProfileBuilder, ExecutionProfileHandle,
};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError, UseKeyspaceError};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy};
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency, Statement};
use scylla::value::{CqlValue, Row};
use tidings_core::log::LogId;
use tidings_store::StoreError;

use crate::order::RingOrder;
use crate::settings::Settings;

/// How many rows of one partition are asked for at once.
pub(crate) const ROWS_AT_ONCE: usize = 1_000;

/// How many replicas of a partition coordinate conditional batches, one after the other.
const COORDINATORS: usize = 3;

/// From one try to open the store to the next.
const OPEN_AGAIN: Duration = Duration::from_millis(500);
/// How long a page of a scan over a whole table may take.
const SCAN_TIMEOUT: Duration = Duration::from_secs(30);

/// How many statements one plain batch may have.
const BATCH_MAX: usize = 100;

/// The cluster, ready for requests.
pub(crate) struct Cql {
    pub(crate) session: Session,
    pub(crate) statements: Statements,
    pub(crate) settings: Settings,
    /// For conditional batches, by how often they were tried: each try has another coordinator.
    conditional: [ExecutionProfileHandle; COORDINATORS],
}

/// Values of one statement.
pub(crate) type Values = Vec<CqlValue>;

/// What a conditional request came to.
pub(crate) enum Conditional {
    /// All conditions held, and it is durable.
    Applied,
    /// A condition did not hold.
    Refused,
    /// Nobody knows; it may even happen later.
    Unknown(String),
}

macro_rules! statements {
    ($($name:ident = $text:expr;)*) => {
        /// Every statement but those of the schema.
        pub(crate) struct Statements {
            $(pub(crate) $name: PreparedStatement,)*
        }

        impl Statements {
            async fn prepare(session: &Session) -> Result<Statements, StoreError> {
                Ok(Statements {
                    $($name: prepare(session, $text).await?,)*
                })
            }
        }
    };
}

statements! {
    open_log = "UPDATE log_rows SET head = ?, generation = ?, ordinal = ?, at = ? WHERE log = ? AND bucket = ? IF head = null";
    move_head = "UPDATE log_rows SET head = ?, ordinal = ?, at = ? WHERE log = ? AND bucket = ? IF head = ? AND generation = ?";
    put_row = "INSERT INTO log_rows (log, bucket, kind, key, data) VALUES (?, ?, ?, ?, ?)";
    claim_row = "INSERT INTO log_rows (log, bucket, kind, key, data) VALUES (?, ?, ?, ?, ?) IF NOT EXISTS";
    head = "SELECT head, generation, ordinal, at FROM log_rows WHERE log = ? AND bucket = ? LIMIT 1";
    row = "SELECT data FROM log_rows WHERE log = ? AND bucket = ? AND kind = ? AND key = ?";
    rows_of = "SELECT data FROM log_rows WHERE log = ? AND bucket = ? AND kind = ? AND key IN ?";
    rows_up = "SELECT key, data FROM log_rows WHERE log = ? AND bucket = ? AND kind = ? AND key >= ? AND key <= ? LIMIT ?";
    rows_down = "SELECT key, data FROM log_rows WHERE log = ? AND bucket = ? AND kind = ? AND key >= ? AND key <= ? ORDER BY kind DESC, key DESC LIMIT ?";
    // Rows that nobody writes any more; the timestamp is above any that a batch was given.
    forget_rows = "DELETE FROM log_rows USING TIMESTAMP ? WHERE log = ? AND bucket = ? AND kind = ? AND key >= ? AND key <= ?";

    put_kept = "INSERT INTO bodies_kept (log, bucket, seq, nonce, body) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1";
    put_bounded = "INSERT INTO bodies_bounded (log, bucket, seq, nonce, body) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1";
    bodies_kept = "SELECT seq, nonce, body FROM bodies_kept WHERE log = ? AND bucket = ? AND seq >= ? AND seq <= ?";
    bodies_bounded = "SELECT seq, nonce, body FROM bodies_bounded WHERE log = ? AND bucket = ? AND seq >= ? AND seq <= ?";
    drop_kept = "DELETE FROM bodies_kept USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND seq = ? AND nonce = ?";
    drop_bounded = "DELETE FROM bodies_bounded USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND seq = ? AND nonce = ?";
    // Of an entry that is there: other bodies at its seq are nobody's.
    erase_kept = "DELETE FROM bodies_kept USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND seq = ?";
    erase_bounded = "DELETE FROM bodies_bounded USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND seq = ?";
    trim_kept = "DELETE FROM bodies_kept USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND seq <= ?";
    trim_bounded = "DELETE FROM bodies_bounded USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND seq <= ?";

    raise_mark = "UPDATE marks USING TIMESTAMP ? SET value = ? WHERE log = ? AND owner = ? AND kind = ? AND lane = ?";
    raise_inbox = "UPDATE inbox USING TIMESTAMP ? SET value = ? WHERE owner = ? AND log = ? AND kind = ? AND lane = ?";
    touch = "UPDATE inbox USING TIMESTAMP ? SET touched = ? WHERE owner = ?";
    touched = "SELECT touched FROM inbox WHERE owner = ? LIMIT 1";
    marks_of_owner = "SELECT owner, kind, lane, value FROM marks WHERE log = ? AND owner = ?";
    marks_of_log = "SELECT owner, kind, lane, value FROM marks WHERE log = ? AND owner > ? LIMIT ?";
    marks_of_log_all = "SELECT owner, kind, lane, value FROM marks WHERE log = ? LIMIT ?";
    inbox_of_log = "SELECT log, kind, lane, value FROM inbox WHERE owner = ? AND log = ?";
    inbox = "SELECT log, kind, lane, value FROM inbox WHERE owner = ? AND log > ? LIMIT ?";

    raise_log = "UPDATE logs USING TIMESTAMP ? SET value = ? WHERE log = ? AND kind = ?";
    log_marks = "SELECT kind, value FROM logs WHERE log = ?";

    first_state = "UPDATE states SET seq = ?, state = ? WHERE log = ? IF seq = null";
    next_state = "UPDATE states SET seq = ?, state = ? WHERE log = ? IF seq < ?";
    put_member = "INSERT INTO states (log, member, data) VALUES (?, ?, ?)";
    state = "SELECT seq, state FROM states WHERE log = ? LIMIT 1";
    member = "SELECT member, data FROM states WHERE log = ? AND member = ?";
    members = "SELECT member, data FROM states WHERE log = ? AND member > ? LIMIT ?";
    members_all = "SELECT member, data FROM states WHERE log = ? AND member >= ? LIMIT ?";

    put_target = "INSERT INTO targets (log, bucket, target, seq, data) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1";
    targets = "SELECT seq, data FROM targets WHERE log = ? AND bucket = ? AND target = ?";
    hide_target = "UPDATE targets USING TIMESTAMP 2 SET data = ? WHERE log = ? AND bucket = ? AND target = ? AND seq = ?";
    trim_targets = "DELETE FROM targets USING TIMESTAMP 2 WHERE log = ? AND bucket = ? AND target <= ?";

    keep_step = "INSERT INTO steps (log, bucket, seq, owner, kind, at) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
    steps = "SELECT seq, owner, kind, at FROM steps WHERE log = ? AND bucket = ? AND seq >= ?";
    trim_steps = "DELETE FROM steps USING TIMESTAMP 1 WHERE log = ? AND bucket = ? AND seq <= ?";

    put_expiry = "INSERT INTO expiry (hour, shard, at, log, seq, nonce) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP 1";
    expiry = "SELECT at, log, seq, nonce FROM expiry WHERE hour = ? AND shard = ? AND at <= ? LIMIT ?";
    drop_expiry = "DELETE FROM expiry USING TIMESTAMP 2 WHERE hour = ? AND shard = ? AND at = ? AND log = ? AND seq = ? AND nonce = ?";

    document = "SELECT version, nonce, value FROM documents WHERE kind = ? AND front = ? AND key = ?";
put_notice = "INSERT INTO documents (kind, front, key, version, nonce, value) VALUES (?, ?, ?, ?, ?, ?) USING TTL 86400";
    make_document = "UPDATE documents SET version = ?, nonce = ?, value = ? WHERE kind = ? AND front = ? AND key = ? IF version = null";
    change_document = "UPDATE documents SET version = ?, nonce = ?, value = ? WHERE kind = ? AND front = ? AND key = ? IF version = ? AND nonce = ?";
    // Ten days: longer than a request can sleep in a frozen node.
    bury_document = "UPDATE documents USING TTL 864000 SET version = ?, nonce = ?, value = null WHERE kind = ? AND front = ? AND key = ? IF version = ? AND nonce = ?";
    documents_up = "SELECT key, version, value FROM documents WHERE kind = ? AND front = ? AND key >= ? LIMIT ?";
    documents_after = "SELECT key, version, value FROM documents WHERE kind = ? AND front = ? AND key > ? LIMIT ?";
    put_front = "INSERT INTO document_fronts (kind, shard, front) VALUES (?, ?, ?) USING TIMESTAMP 1";
    fronts = "SELECT front FROM document_fronts WHERE kind = ? AND shard = ? AND front >= ? LIMIT ?";

    // For moving a deployment: all there is, in the order of the partitions.
    all_buckets = "SELECT DISTINCT log, bucket FROM log_rows";

    time = "SELECT toTimestamp(now()) FROM system.local";

    put_listed = "INSERT INTO listed (list, part, item, data) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    listed = "SELECT item, data FROM listed WHERE list = ? AND part = ? AND item >= ? LIMIT ?";
    drop_listed = "DELETE FROM listed USING TIMESTAMP ? WHERE list = ? AND part = ? AND item = ? AND data = ?";
}

async fn prepare(session: &Session, text: &str) -> Result<PreparedStatement, StoreError> {
    let mut statement = session
        .prepare(Statement::new(text))
        .await
        .map_err(|error| StoreError::Unavailable(format!("{text}: {error}")))?;
    // Whether it may be repeated is said by what it is: a condition forbids it.
    statement.set_is_idempotent(!text.contains(" IF "));
    Ok(statement)
}

/// Connects to the cluster without choosing a keyspace.
pub(crate) async fn connect(settings: &Settings) -> Result<Session, StoreError> {
    let mut builder = SessionBuilder::new()
        .known_nodes(&settings.contact_points)
        .connection_timeout(Duration::from_secs(3))
        // A frozen node answers nothing and closes nothing: this is how it is noticed.
        .keepalive_interval(Duration::from_millis(1_100))
        .keepalive_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .fetch_schema_metadata(true)
        .default_execution_profile_handle(freely(settings).into_handle());
    if let Some((user, password)) = &settings.credentials {
        builder = builder.user(user, password);
    }
    builder.build().await.map_err(|error| {
        StoreError::Unavailable(format!("{}: {error}", settings.contact_points.join(", ")))
    })
}

/// How requests are sent that may be repeated: by the driver, on any replica.
fn freely(settings: &Settings) -> ExecutionProfile {
    let mut policy = DefaultPolicy::builder().token_aware(true);
    if let Some(data_centre) = &settings.data_centre {
        policy = policy
            .prefer_datacenter(data_centre.clone())
            .permit_dc_failover(true);
    }
    profile(settings)
        .load_balancing_policy(policy.build())
        .retry_policy(Arc::new(DefaultRetryPolicy::new()))
        .speculative_execution_policy(Some(Arc::new(SimpleSpeculativeExecutionPolicy {
            max_retry_count: 2,
            retry_interval: settings.request_timeout / 3,
        })))
        .build()
}

/// How a conditional batch is sent: once, to the replica whose turn it is.
fn once(settings: &Settings, passed_over: usize) -> ExecutionProfile {
    profile(settings)
        .load_balancing_policy(Arc::new(RingOrder {
            passed_over,
            data_centre: settings.data_centre.clone(),
        }))
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .speculative_execution_policy(None)
        .build()
}

fn profile(settings: &Settings) -> ExecutionProfileBuilder {
    ExecutionProfile::builder()
        .consistency(Consistency::Quorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(settings.request_timeout))
}

impl Cql {
    /// Connects and prepares every statement, again until the patience ends. The tables must be there.
    pub(crate) async fn open(settings: Settings) -> Result<Cql, StoreError> {
        let end = Instant::now() + settings.patience;
        loop {
            match Cql::open_once(settings.clone()).await {
                Err(StoreError::Unavailable(why)) if Instant::now() + OPEN_AGAIN < end => {
                    tracing::warn!(why, "the store could not be opened: trying again");
                    tokio::time::sleep(OPEN_AGAIN).await;
                }
                opened => return opened,
            }
        }
    }

    async fn open_once(settings: Settings) -> Result<Cql, StoreError> {
        let session = connect(&settings).await?;
        use_keyspace(&session, &settings.keyspace).await?;
        match crate::schema::format(&session).await? {
            Some(crate::schema::FORMAT) => {}
            Some(newer) if newer > crate::schema::FORMAT => {
                return Err(StoreError::Misuse(format!(
                    "the keyspace {} is of format {newer}, made by a newer version of Tidings; this one knows {}",
                    settings.keyspace,
                    crate::schema::FORMAT
                )));
            }
            _ => {
                return Err(StoreError::Misuse(format!(
                    "the keyspace {} has no tables of this version yet: run `tidings migrate` first",
                    settings.keyspace
                )));
            }
        }
        Ok(Cql {
            statements: Statements::prepare(&session).await?,
            conditional: std::array::from_fn(|tries| once(&settings, tries).into_handle()),
            session,
            settings,
        })
    }

    /// The rows of a query.
    pub(crate) async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let answer = self
            .patiently(|| self.session.execute_unpaged(statement, &values))
            .await?;
        let rows = answer.into_rows_result().map_err(damaged)?;
        let rows = rows.rows::<R>().map_err(damaged)?;
        rows.collect::<Result<Vec<R>, _>>().map_err(damaged)
    }

    /// The first row of a query.
    pub(crate) async fn first<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        Ok(self.rows(statement, values).await?.into_iter().next())
    }

    /// The rows of a query of one partition, as of now whatever is under way: a serial read finishes what a
    /// conditional batch began.
    pub(crate) async fn rows_serial<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let mut serial = statement.clone();
        serial.set_consistency(Consistency::Serial);
        self.rows(&serial, values).await
    }

    /// The first row, as [`Cql::rows_serial`].
    pub(crate) async fn first_serial<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let rows = self.rows_serial(statement, values).await?;
        Ok(rows.into_iter().next())
    }

    /// A plain write that may be repeated.
    pub(crate) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<(), StoreError> {
        self.patiently(|| self.session.execute_unpaged(statement, &values))
            .await
            .map(|_| ())
    }

    /// Plain writes to one partition, all by one statement, which may be repeated.
    pub(crate) async fn write_all(
        &self,
        statement: &PreparedStatement,
        writes: Vec<Values>,
    ) -> Result<(), StoreError> {
        self.write_all_and(statement, writes, None).await
    }

    /// As [`Cql::write_all`], with one more write of another statement in the last batch.
    pub(crate) async fn write_all_and(
        &self,
        statement: &PreparedStatement,
        mut writes: Vec<Values>,
        last: Option<(&PreparedStatement, Values)>,
    ) -> Result<(), StoreError> {
        let mut statements = vec![statement; writes.len()];
        if let Some((statement, values)) = last {
            statements.push(statement);
            writes.push(values);
        }
        if writes.is_empty() {
            return Ok(());
        }
        if let ([statement], [values]) = (statements.as_slice(), writes.as_slice()) {
            return self.write(statement, values).await;
        }
        for (statements, writes) in statements.chunks(BATCH_MAX).zip(writes.chunks(BATCH_MAX)) {
            let mut batch = Batch::new(BatchType::Unlogged);
            batch.set_is_idempotent(true);
            for statement in statements {
                batch.append_statement(BatchStatement::from((*statement).clone()));
            }
            self.patiently(|| self.session.batch(&batch, writes))
                .await?;
        }
        Ok(())
    }

    /// One try of a conditional batch, after so many others. The first is coordinated by the partition's first
    /// replica, whoever sends it, and the next by the next, as the first may be frozen. Each has more time, for an
    /// earlier one may still be at work and contend.
    pub(crate) async fn conditional(
        &self,
        writes: &[(&PreparedStatement, Values)],
        tries: u32,
    ) -> Result<Conditional, StoreError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(false);
        batch.set_serial_consistency(Some(SerialConsistency::Serial));
        batch.set_consistency(Consistency::Quorum);
        batch.set_request_timeout(Some(self.settings.request_timeout * (tries + 1).min(3)));
        let profile = self.conditional[tries as usize % COORDINATORS].clone();
        batch.set_execution_profile_handle(Some(profile));
        let mut all = Vec::with_capacity(writes.len());
        for (statement, values) in writes {
            batch.append_statement(BatchStatement::from((*statement).clone()));
            all.push(values);
        }
        judge(self.session.batch(&batch, &all).await)
    }

    /// The rows of a query over a whole table, page by page.
    pub(crate) async fn all_rows<R>(
        &self,
        statement: &PreparedStatement,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let mut statement = statement.clone();
        statement.set_page_size(ROWS_AT_ONCE as i32);
        // Each page may come from many places.
        statement.set_request_timeout(Some(SCAN_TIMEOUT));
        let (mut found, mut from) = (Vec::new(), PagingState::start());
        loop {
            let (answer, next) = self
                .patiently(|| {
                    self.session
                        .execute_single_page(&statement, (), from.clone())
                })
                .await?;
            let rows = answer.into_rows_result().map_err(damaged)?;
            for row in rows.rows::<R>().map_err(damaged)? {
                found.push(row.map_err(damaged)?);
            }
            match next {
                PagingStateResponse::HasMorePages { state } => from = state,
                PagingStateResponse::NoMorePages => return Ok(found),
            }
        }
    }

    /// Repeats a request until it is answered or the patience ends.
    async fn patiently<T, F>(&self, request: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, ExecutionError>>,
    {
        let end = Instant::now() + self.settings.patience;
        let mut pause = Duration::from_millis(20);
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) if is_misuse(&error) => {
                    return Err(StoreError::Misuse(error.to_string()));
                }
                Err(error) if Instant::now() + pause >= end => {
                    return Err(StoreError::Unavailable(error.to_string()));
                }
                Err(error) => {
                    tracing::debug!(%error, "a request to the store is repeated");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_millis(500));
                }
            }
        }
    }
}

/// Chooses the keyspace of a session.
pub(crate) async fn use_keyspace(session: &Session, keyspace: &str) -> Result<(), StoreError> {
    crate::schema::check_name(keyspace)?;
    let used = session.use_keyspace(keyspace, true).await;
    used.map_err(|error| match error {
        UseKeyspaceError::RequestError(RequestAttemptError::DbError(DbError::Invalid, _)) => {
            StoreError::Misuse(format!(
                "the keyspace {keyspace} is not there: run `tidings migrate` first"
            ))
        }
        error => StoreError::Unavailable(error.to_string()),
    })
}

fn judge(answer: Result<QueryResult, ExecutionError>) -> Result<Conditional, StoreError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if is_misuse(&error) => return Err(StoreError::Misuse(error.to_string())),
        Err(error) => return Ok(Conditional::Unknown(error.to_string())),
    };
    let Ok(rows) = answer.into_rows_result() else {
        return Ok(Conditional::Unknown("an answer without rows".to_owned()));
    };
    Ok(match rows.first_row::<Row>() {
        Ok(row) => match row.columns.first() {
            Some(Some(CqlValue::Boolean(true))) => Conditional::Applied,
            Some(Some(CqlValue::Boolean(false))) => Conditional::Refused,
            _ => Conditional::Unknown("an answer that does not say".to_owned()),
        },
        Err(error) => Conditional::Unknown(error.to_string()),
    })
}

/// Whether an error says that the request itself is wrong, so that repeating it is no use.
fn is_misuse(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
        ),
        ExecutionError::LastAttemptError(
            RequestAttemptError::SerializationError(_)
            | RequestAttemptError::CqlRequestSerialization(_),
        ) => true,
        _ => false,
    }
}

pub(crate) fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

/// A value of a column.
pub(crate) fn blob(bytes: impl Into<Vec<u8>>) -> CqlValue {
    CqlValue::Blob(bytes.into())
}

pub(crate) fn big(number: i64) -> CqlValue {
    CqlValue::BigInt(number)
}

pub(crate) fn tiny(number: u8) -> CqlValue {
    CqlValue::TinyInt(number.cast_signed())
}

pub(crate) fn log_value(log: LogId) -> CqlValue {
    blob(log.to_bytes())
}

/// A seq as a number of the database. Seqs have 53 bits; what is beyond is as far as one can go.
pub(crate) fn seq_number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
