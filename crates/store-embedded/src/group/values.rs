//! States, marks, steps and documents on their way into a commit.

use tidings_core::Time;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_store::{PutDocument, PutError, StateSnapshot, StoreError};

use super::Group;
use crate::damaged_row;
use crate::keys::{self, StepKey};
use crate::late::Values;
use crate::rows::{self, LogRow};

impl Group<'_> {
    pub(super) fn write_state_of(
        &mut self,
        log: LogId,
        state: StateSnapshot,
    ) -> Result<(), StoreError> {
        if let Some(mut row) = self.log(log)? {
            if self.write_state(log, &mut row, state) {
                self.put_log(log, row);
            }
        } else if state.seq > self.state_of_no_log(log)? {
            self.put_state(log, state);
        }
        Ok(())
    }

    /// The seq of the state of a log that has no row: a state may come before the first entry.
    pub(super) fn state_of_no_log(&self, log: LogId) -> Result<Seq, StoreError> {
        match self.states.get(&log) {
            Some(seq) => Ok(*seq),
            None => match self.tables.states.get(&keys::log(log))? {
                Some(bytes) => Ok(rows::decode_numbered(&bytes).map_err(damaged_row)?.0),
                None => Ok(0),
            },
        }
    }

    /// Writes a state if it is newer than the stored one.
    pub(super) fn write_state(
        &mut self,
        log: LogId,
        row: &mut LogRow,
        state: StateSnapshot,
    ) -> bool {
        if state.seq <= row.state {
            return false;
        }
        row.state = state.seq;
        self.put_state(log, state);
        true
    }

    fn put_state(&mut self, log: LogId, state: StateSnapshot) {
        self.states.insert(log, state.seq);
        let bytes = rows::encode_numbered(state.seq, &state.state);
        self.batch
            .insert(&self.tables.states, keys::log(log), bytes);
        for (user, member) in state.members {
            self.batch
                .insert(&self.tables.members, keys::member(log, user), member);
        }
    }

    pub(super) fn raise_marks(&mut self, marks: &[Mark]) -> Result<(), StoreError> {
        let of_one_owner = |a: &Mark, b: &Mark| (a.log, a.owner) == (b.log, b.owner);
        let mut by_owner = marks.chunk_by(of_one_owner);
        by_owner.try_for_each(|marks| self.raise_owner(marks))
    }

    /// Raises marks of one owner in one log.
    fn raise_owner(&mut self, raised: &[Mark]) -> Result<(), StoreError> {
        let Some(first) = raised.first() else {
            return Ok(());
        };
        let owner = keys::marks(first.log, first.owner);
        let tables = self.tables;
        let cached = &mut self.caches.marks;
        let mut marks = cached.get_or_read(first.log, first.owner, || tables.marks.get(&owner))?;
        let mut is_higher = false;
        for &Mark {
            kind, lane, value, ..
        } in raised
        {
            if !marks.raise(kind, lane, value) {
                continue;
            }
            is_higher = true;
            if keys::is_in_inbox(kind) {
                let value = marks.get(kind, lane).unwrap_or(value);
                let key = keys::inbox(&owner, kind, lane);
                self.batch
                    .insert(&tables.inbox, key, rows::encode_mark(&value));
            }
        }
        if is_higher {
            let row = marks.encode();
            self.caches.marks.set(first.log, first.owner, &row);
            self.batch.insert(&tables.marks, owner, row);
        }
        Ok(())
    }

    /// Writes what was raised late.
    pub(crate) fn write_late(&mut self, late: &Values) -> Result<(), StoreError> {
        late.marks().try_for_each(|marks| self.raise_owner(marks))?;
        for (key, at) in &late.steps {
            self.keep_step(*key, *at)?;
        }
        Ok(())
    }

    /// Keeps a step, unless it is kept already: its first time stays. One above all others of its kind needs
    /// no look at what is stored.
    fn keep_step(&mut self, key: StepKey, at: Time) -> Result<(), StoreError> {
        let kind = keys::kind_of_step(&key);
        let tables = self.tables;
        let last = self.caches.steps.get_or_read(kind, || {
            let of_kind = keys::step_of_kind(&kind, 0)..=keys::step_of_kind(&kind, Seq::MAX);
            match tables.steps.range(of_kind).next_back().transpose()? {
                Some((key, _)) => Ok::<_, StoreError>(Some(keys::parse_step(&key)?.seq)),
                None => Ok(None),
            }
        })?;
        let seq = keys::parse_step(&key)?.seq;
        if last.is_none_or(|last| last < seq) {
            *last = Some(seq);
        } else if tables.steps.get(&key)?.is_some() {
            return Ok(());
        }
        let at = rows::encode_number(at.0);
        self.batch.insert(&tables.steps, key, at);
        Ok(())
    }

    pub(super) fn put_document(
        &mut self,
        put: PutDocument,
    ) -> Result<Result<u64, PutError>, StoreError> {
        let key = keys::document(put.kind, &put.key);
        let version = match self.documents.get(&key) {
            Some(version) => *version,
            None => match self.tables.documents.get(&key)? {
                Some(bytes) => rows::decode_numbered(&bytes).map_err(damaged_row)?.0,
                None => 0,
            },
        };
        if put.expected.is_some_and(|expected| expected != version) {
            return Ok(Err(PutError::Conflict { version }));
        }
        let written = match put.value {
            Some(value) => {
                let version = self.next_version()?;
                let bytes = rows::encode_numbered(version, &value);
                self.batch
                    .insert(&self.tables.documents, key.as_slice(), bytes);
                version
            }
            None => {
                self.batch.remove(&self.tables.documents, key.as_slice());
                0
            }
        };
        self.documents.insert(key, written);
        Ok(Ok(written))
    }

    /// One counter for all documents, so that one deleted and made anew has another version.
    fn next_version(&mut self) -> Result<u64, StoreError> {
        let last = match self.caches.last_version {
            Some(last) => last,
            None => match self.tables.upkeep.get(&keys::LAST_VERSION)? {
                Some(bytes) => rows::decode_number(&bytes).map_err(damaged_row)?,
                None => 0,
            },
        };
        self.caches.last_version = Some(last + 1);
        self.batch.insert(
            &self.tables.upkeep,
            keys::LAST_VERSION,
            rows::encode_number(last + 1),
        );
        Ok(last + 1)
    }
}
