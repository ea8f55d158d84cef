//! The store: what Tidings asks of whatever keeps its data.
//!
//! [`Store`] is the one seam. [`memory::MemoryStore`] implements it for tests and simulation,
//! `tidings-store-embedded` on one machine. Every implementation passes the suite in
//! [`conformance`].

pub mod conformance;
pub mod memory;
mod moving;
mod types;

use std::future::Future;
use std::pin::Pin;

use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_core::{ClientId, Time, UserId};

pub use moving::{Beginning, Movable};
pub use types::{
    Alterations, Append, AppendError, ClientIdSearch, Direction, Document, DocumentKind,
    Durability, LogHead, MemberQuery, Page, PutDocument, PutError, ReadLog, StateSnapshot, Step,
    StoreError, StoredMember, Want,
};

/// The answer of a store: a future on the heap, so that stores can be chosen at run time.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What keeps logs, watermarks, states and documents.
///
/// Everything that a method acknowledged as durable survives `kill -9` and power loss. Methods may
/// be called from any task; those on one log take effect in some order, each wholly or not at all.
pub trait Store: Send + Sync + 'static {
    // Logs.

    /// Appends entries at an expected head, with everything that belongs to the same step: bodies to
    /// erase, marks, a state. All of it is durable when this returns, or none of it ever happened.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] names the head when it is another one; nothing changed.
    fn append(&self, append: Append) -> StoreFuture<'_, Result<(), AppendError>>;

    /// Appends to several logs. Each append is by itself and ends as [`Store::append`] does; the answers
    /// are in their order. Together they cost less than one by one.
    fn append_all(&self, appends: Vec<Append>) -> StoreFuture<'_, Vec<Result<(), AppendError>>>;

    /// The head of a log, `None` if it has never been written to.
    fn head(&self, log: LogId) -> StoreFuture<'_, Result<Option<LogHead>, StoreError>>;

    /// Reads entries forwards or backwards from a seq, bounded by count and bytes. Trimmed entries are
    /// left out; erased ones come with their body erased.
    fn read(&self, log: LogId, read: ReadLog) -> StoreFuture<'_, Result<Page, StoreError>>;

    /// What alters each of these entries: edits, a deletion, reactions. From the index by target kept
    /// beside the log, and as of one moment. Targets that nothing alters are left out.
    fn alterations(
        &self,
        log: LogId,
        targets: Vec<Seq>,
    ) -> StoreFuture<'_, Result<Vec<Alterations>, StoreError>>;

    /// Looks for the entry that an author's client id became, in the entries above `above`.
    fn find_client_id(
        &self,
        log: LogId,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> StoreFuture<'_, Result<ClientIdSearch, StoreError>>;

    /// Raises the trimmed mark: entries up to `up_to` are served no more and their bodies vanish from
    /// the disk within the store's bound. Never goes past the durable state or the head (it stops
    /// there); idempotent. Answers where the mark stands now. Durable when it returns.
    fn trim(&self, log: LogId, up_to: Seq) -> StoreFuture<'_, Result<Seq, StoreError>>;

    /// Erases the bodies of these entries: gone from every read at once, from the disk within the
    /// store's bound. Idempotent, durable when it returns.
    fn erase(&self, log: LogId, seqs: Vec<Seq>) -> StoreFuture<'_, Result<(), StoreError>>;

    /// Entries whose expiry is at or before `now` and whose body is not erased yet, earliest first.
    fn expired(
        &self,
        now: Time,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<(LogId, Seq)>, StoreError>>;

    // Watermarks.

    /// Raises marks, each to the higher of its value and the given one. With [`Durability::Late`] it
    /// returns at once, reads see the value at once, and the disk at most 100 ms later.
    fn raise_marks(
        &self,
        marks: Vec<Mark>,
        durability: Durability,
    ) -> StoreFuture<'_, Result<(), StoreError>>;

    /// All marks of one owner in one log.
    fn marks(&self, log: LogId, owner: [u8; 16]) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>>;

    /// The marks of a log by owner, from the first owner above `after`; whole owners, about `limit` marks.
    fn marks_of_log(
        &self,
        log: LogId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>>;

    /// The logs in which a user has a joined, left or head mark, with those marks, from the first log
    /// above `after`; whole logs, about `limit` marks. A user's inbox begins here.
    fn memberships(
        &self,
        user: UserId,
        after: Option<LogId>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>>;

    /// When something of a user's inbox last moved: the highest time of its joined, left and head marks. Cheap,
    /// whatever the number of logs: several programs that share a store ask it again and again.
    fn touched(&self, user: UserId) -> StoreFuture<'_, Result<Time, StoreError>>;

    /// Keeps the times at which marks made these steps. Late, like marks.
    fn keep_steps(&self, steps: Vec<Step>) -> StoreFuture<'_, Result<(), StoreError>>;

    /// For every owner the first kept step of each mark kind that passed `seq`.
    fn steps_past(&self, log: LogId, seq: Seq) -> StoreFuture<'_, Result<Vec<Step>, StoreError>>;

    // States.

    /// Writes a state with the members that changed since the last. Ignored if an equal or newer one is
    /// there. Durable when it returns.
    fn write_state(
        &self,
        log: LogId,
        state: StateSnapshot,
    ) -> StoreFuture<'_, Result<(), StoreError>>;

    /// The stored state of a log (without members), `None` if there is none.
    fn read_state(&self, log: LogId) -> StoreFuture<'_, Result<Option<StateSnapshot>, StoreError>>;

    /// Stored members of a log, as of the stored state, in the order of their ids.
    fn read_members(
        &self,
        log: LogId,
        query: MemberQuery,
    ) -> StoreFuture<'_, Result<Vec<StoredMember>, StoreError>>;

    // Documents.

    /// A small document.
    fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> StoreFuture<'_, Result<Option<Document>, StoreError>>;

    /// Writes a document if its version is still the expected one (compare and set). Durable when it returns.
    ///
    /// # Errors
    /// [`PutError::Conflict`] when it is another one; nothing changed. A unique claim (a username) is a
    /// document put with expected version 0.
    fn put_document(&self, put: PutDocument) -> StoreFuture<'_, Result<u64, PutError>>;

    /// The documents of a kind whose key begins with `prefix`, in the order of their keys, from the first
    /// key above `after`.
    fn scan_documents(
        &self,
        kind: DocumentKind,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Document>, StoreError>>;

    // The whole.

    /// Makes everything that was accepted late durable.
    fn flush(&self) -> StoreFuture<'_, Result<(), StoreError>>;
}
