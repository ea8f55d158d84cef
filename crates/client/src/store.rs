//! The seam to the local store: rows with byte keys and values in named tables.
//!
//! A store is anything that keeps ordered rows: SQLite natively, IndexedDB in a browser. It
//! knows nothing of what is in them; every value begins with the version of its form.

/// A table. Rows are ordered by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// A conversation's settings, members and marks, by its id.
    Conversations,
    /// How far this device is in a conversation, by its id.
    Positions,
    /// What waits to be sent, in the order in which it was written.
    Outbox,
    /// Profiles, by user.
    Profiles,
    /// When messages vanish, by time, conversation and seq.
    Expiries,
    /// Entries, by conversation and seq. Read in pages, never as a whole.
    Entries,
    /// Edits, deletions and reactions, by conversation, target and seq. Read in pages.
    Alterations,
}

impl Table {
    /// All tables.
    pub const ALL: [Table; 7] = [
        Table::Conversations,
        Table::Positions,
        Table::Outbox,
        Table::Profiles,
        Table::Expiries,
        Table::Entries,
        Table::Alterations,
    ];

    /// Its name: stable, safe as an SQL identifier.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Table::Conversations => "conversations",
            Table::Positions => "positions",
            Table::Outbox => "outbox",
            Table::Profiles => "profiles",
            Table::Expiries => "expiries",
            Table::Entries => "entries",
            Table::Alterations => "alterations",
        }
    }

    /// Whether all its rows belong into the [`Snapshot`] at the start.
    #[must_use]
    pub fn is_in_snapshot(self) -> bool {
        !matches!(self, Table::Entries | Table::Alterations)
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// One write. Those of one [`crate::Output::Store`] are one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Writes a row, whether it was there or not.
    Put {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Deletes a row if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
    /// Deletes all rows whose key begins with this.
    DeletePrefix {
        /// Where.
        table: Table,
        /// What their keys begin with.
        prefix: Vec<u8>,
    },
}

/// A range of rows to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Where.
    pub table: Table,
    /// The first key, inclusive.
    pub from: Vec<u8>,
    /// The end, exclusive.
    pub to: Vec<u8>,
    /// At most so many rows, from `from` on, in the order of their keys.
    pub limit: usize,
}

/// The rows of all tables that belong into it ([`Table::is_in_snapshot`]), in any order.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The rows.
    pub rows: Vec<(Table, Row)>,
}

/// Names a batch of writes. Later batches have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreToken(pub u64);

/// Names a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadToken(pub u64);
