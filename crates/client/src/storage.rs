//! Writing and reading through the seam: batches with tokens, and what is to happen once they are durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_core::log::Seq;
use tidings_core::{ClientId, ConversationId, Generation};

use crate::client::Client;
use crate::output::Output;
use crate::rows;
use crate::store::{LoadToken, Read, Row, StoreOp, StoreToken, Table};

/// What is to happen once a batch is durable.
#[derive(Debug)]
pub(crate) enum AfterStore {
    /// The wish may be sent.
    Wish(ClientId),
    /// The range that the position is in, from and to, is here.
    Covered(ConversationId, Generation, Seq, Seq),
}

/// What a reading was for.
#[derive(Debug)]
pub(crate) enum LoadPurpose {
    /// A page of a timeline: from and to.
    Timeline(ConversationId, Seq, Seq),
    /// The content of these entries is to be erased.
    Erase(Vec<(ConversationId, Seq)>),
}

#[derive(Debug, Default)]
pub(crate) struct Storage {
    batch: Vec<StoreOp>,
    after: Vec<AfterStore>,
    waiting: VecDeque<(StoreToken, Vec<AfterStore>)>,
    last_token: u64,
    loads: BTreeMap<LoadToken, LoadPurpose>,
    /// Conversations and positions whose rows are to be written some time soon.
    pub(crate) dirty: BTreeSet<ConversationId>,
}

impl Storage {
    pub(crate) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.batch.push(StoreOp::Put { table, key, value });
    }

    pub(crate) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.batch.push(StoreOp::Delete { table, key });
    }

    pub(crate) fn delete_prefix(&mut self, table: Table, prefix: Vec<u8>) {
        self.batch.push(StoreOp::DeletePrefix { table, prefix });
    }

    /// Once what is in the batch now is durable, this is to happen.
    pub(crate) fn then(&mut self, after: AfterStore) {
        self.after.push(after);
    }

    pub(crate) fn has_batch(&self) -> bool {
        !self.batch.is_empty() || !self.after.is_empty()
    }
}

impl Client {
    /// Gives out what was gathered as one transaction.
    pub(crate) fn flush_batch(&mut self) {
        if !self.storage.has_batch() {
            return;
        }
        self.write_dirty();
        self.storage.last_token += 1;
        let token = StoreToken(self.storage.last_token);
        let after = std::mem::take(&mut self.storage.after);
        self.storage.waiting.push_back((token, after));
        let batch = std::mem::take(&mut self.storage.batch);
        self.outputs.push_back(Output::Store(batch, token));
    }

    /// Writes the rows of conversations that have changed.
    pub(crate) fn write_dirty(&mut self) {
        self.store_at = None;
        for id in std::mem::take(&mut self.storage.dirty) {
            let Some(conversation) = self.conversations.get(&id) else {
                continue;
            };
            let (summary, position) = (conversation.to_row(), conversation.to_position_row());
            self.storage
                .put(Table::Conversations, id.0.to_vec(), rows::encode(&summary));
            self.storage
                .put(Table::Positions, id.0.to_vec(), rows::encode(&position));
        }
    }

    /// The conversation's rows are to be written, with the next batch or after a moment.
    pub(crate) fn mark_dirty(&mut self, id: ConversationId) {
        self.storage.dirty.insert(id);
        let at = self.clock.tick() + self.config.limits.store_delay_ms;
        self.store_at.get_or_insert(at);
    }

    pub(crate) fn stored(&mut self, token: StoreToken) {
        while self
            .storage
            .waiting
            .front()
            .is_some_and(|(first, _)| *first <= token)
        {
            let Some((_, after)) = self.storage.waiting.pop_front() else {
                return;
            };
            for action in after {
                match action {
                    AfterStore::Wish(client_id) => self.outbox.stored(client_id),
                    AfterStore::Covered(id, generation, from, to) => {
                        self.covered_durably(id, generation, from, to)
                    }
                }
            }
        }
    }

    pub(crate) fn load(&mut self, reads: Vec<Read>, purpose: LoadPurpose) {
        // What was gathered is written first: the reading is to see it.
        self.flush_batch();
        self.last_load += 1;
        let token = LoadToken(self.last_load);
        self.storage.loads.insert(token, purpose);
        self.outputs.push_back(Output::Load(reads, token));
    }

    pub(crate) fn loaded(&mut self, token: LoadToken, ranges: Vec<Vec<Row>>) {
        match self.storage.loads.remove(&token) {
            Some(LoadPurpose::Timeline(id, from, to)) => {
                self.timeline_loaded(id, from, to, &ranges)
            }
            Some(LoadPurpose::Erase(entries)) => self.erase_loaded(&entries, &ranges),
            None => {}
        }
    }
}
