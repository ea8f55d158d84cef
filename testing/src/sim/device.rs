//! A device: the real client, a disk that is slow and may lose what it has not written, a clock that is wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_client::{
    Change, Client, Config, ConversationView, Item, Limits, ListChange, LoadToken, Read, Row,
    Snapshot, StoreOp, StoreToken, Table,
};
use tidings_core::{ClientId, ConversationId, DeviceId, Time, UserId};

/// What waits for the disk, in order.
pub(super) enum DiskJob {
    Store(Vec<StoreOp>, StoreToken),
    Load(Vec<Read>, LoadToken),
}

pub(super) struct Device {
    pub(super) user: UserId,
    pub(super) id: DeviceId,
    pub(super) client: Option<Client>,
    /// How often it was started: what concerns an earlier run is dropped.
    pub(super) run: u64,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    pub(super) disk: VecDeque<DiskJob>,
    pub(super) connection: Option<u64>,
    /// How far its clock is off.
    pub(super) offset: i64,
    pub(super) timer_at: Option<u64>,
    /// The lists as a screen has them: made from changes alone.
    pub(super) list: Vec<ConversationView>,
    pub(super) timelines: BTreeMap<ConversationId, Vec<Item>>,
    /// Messages in the order in which they were wished, by conversation.
    pub(super) wished: BTreeMap<ConversationId, Vec<ClientId>>,
    pub(super) refused: BTreeSet<ClientId>,
    /// Wishes that are not on the disk yet, and the batch that they are in.
    pub(super) unwritten: BTreeMap<ClientId, StoreToken>,
    /// Wishes that were not on the disk when the device crashed: never promised to anybody.
    pub(super) unsure: BTreeSet<ClientId>,
    /// Stopped by its user.
    pub(super) offline: bool,
}

impl Device {
    pub(super) fn new(user: UserId, id: DeviceId) -> Device {
        Device {
            user,
            id,
            client: None,
            run: 0,
            rows: BTreeMap::new(),
            disk: VecDeque::new(),
            connection: None,
            offset: 0,
            timer_at: None,
            list: Vec::new(),
            timelines: BTreeMap::new(),
            wished: BTreeMap::new(),
            refused: BTreeSet::new(),
            unwritten: BTreeMap::new(),
            unsure: BTreeSet::new(),
            offline: false,
        }
    }

    pub(super) fn start(&mut self, now: Time, seed: u64) {
        self.run += 1;
        let limits = Limits {
            // Small bounds, so that they are met.
            sends_in_flight_max: 4,
            history_in_flight_max: 2,
            load_page_entries: 8,
            timeline_items_max: 40,
            timelines_max: 2,
            ..Limits::default()
        };
        let config = Config {
            user: self.user,
            device: self.id,
            token: None,
            client: "simulated".to_owned(),
            seed,
            limits,
        };
        let rows = self
            .rows
            .iter()
            .filter(|((table, _), _)| table.is_in_snapshot());
        let rows = rows
            .map(|((table, key), value)| {
                (
                    *table,
                    Row {
                        key: key.clone(),
                        value: value.clone(),
                    },
                )
            })
            .collect();
        self.client = Some(Client::new(config, Snapshot { rows }, now));
        self.list = Vec::new();
        self.timelines = BTreeMap::new();
    }

    /// The process is gone, and with it what the disk has not written.
    pub(super) fn crash(&mut self) {
        self.disk.clear();
        self.unsure
            .extend(std::mem::take(&mut self.unwritten).into_keys());
        self.client = None;
        self.connection = None;
        self.timer_at = None;
        self.run += 1;
    }

    pub(super) fn write(&mut self, ops: Vec<StoreOp>) {
        for op in ops {
            match op {
                StoreOp::Put { table, key, value } => {
                    self.rows.insert((table, key), value);
                }
                StoreOp::Delete { table, key } => {
                    self.rows.remove(&(table, key));
                }
                StoreOp::DeletePrefix { table, prefix } => {
                    self.rows
                        .retain(|(of, key), _| *of != table || !key.starts_with(&prefix));
                }
            }
        }
    }

    pub(super) fn read(&self, reads: &[Read]) -> Vec<Vec<Row>> {
        let range = |read: &Read| {
            let rows = self
                .rows
                .range((read.table, read.from.clone())..(read.table, read.to.clone()));
            rows.take(read.limit)
                .map(|((_, key), value)| Row {
                    key: key.clone(),
                    value: value.clone(),
                })
                .collect()
        };
        reads.iter().map(range).collect()
    }

    /// Takes note of a message that was just wished.
    pub(super) fn note_wish(&mut self, conversation: ConversationId, client_id: ClientId) {
        self.wished.entry(conversation).or_default().push(client_id);
        let batch = self.disk.iter().rev().find_map(|job| match job {
            DiskJob::Store(_, token) => Some(*token),
            DiskJob::Load(..) => None,
        });
        self.unwritten.extend(batch.map(|token| (client_id, token)));
    }

    /// Whether some row holds this text.
    pub(super) fn disk_holds(&self, text: &str) -> bool {
        self.rows.values().any(|value| {
            value
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        })
    }

    pub(super) fn changed(&mut self, change: Change) {
        match change {
            Change::Conversations(change) => change.apply_to(&mut self.list),
            Change::Timeline {
                conversation,
                change,
            } => {
                let items = self.timelines.entry(conversation).or_default();
                if let ListChange::Reset(_) = change {
                    items.clear();
                }
                change.apply_to(items);
            }
            Change::Refused { client_id, .. } => {
                self.refused.insert(client_id);
            }
            _ => {}
        }
    }
}
