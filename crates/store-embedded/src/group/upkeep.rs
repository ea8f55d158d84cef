//! What upkeep did, on its way into a commit.

use tidings_store::StoreError;

use super::Group;
use crate::commit::failed;
use crate::keys;
use crate::upkeep::{Done, Forgotten, Swept};

impl Group<'_> {
    pub(super) fn upkeep(&mut self, done: Done) -> Result<(), StoreError> {
        let tables = self.tables;
        match done {
            Done::Zeroed(places) => {
                for (file, offset, length) in places {
                    self.batch.remove(&tables.upkeep, keys::zero(file, offset));
                    self.bodies.add_dead(file, length);
                }
            }
            Done::Swept(all) => {
                for swept in all {
                    self.swept(swept)?;
                }
            }
            Done::Forgotten(all) => {
                for forgotten in all {
                    self.forgotten(forgotten)?;
                }
            }
            Done::Indexed(blocks) => {
                for (log, block, prints) in blocks {
                    if let Some(prints) = prints {
                        let key = keys::block(log, block);
                        self.batch.insert(&tables.clients, key, prints.encode());
                    }
                    self.batch.remove(&tables.upkeep, keys::index(log, block));
                }
                return Ok(());
            }
            Done::Tidied(now) => self.bodies.seal_past(now).map_err(|error| failed(&error))?,
        }
        self.buries = true;
        Ok(())
    }

    /// The bodies of a log up to a seq are gone.
    fn swept(&mut self, swept: Swept) -> Result<(), StoreError> {
        let tables = self.tables;
        let Some(mut row) = self.log(swept.log)? else {
            return Ok(());
        };
        row.swept = row.swept.max(swept.up_to);
        self.put_log(swept.log, row);
        if row.swept == row.trimmed {
            self.batch.remove(&tables.upkeep, keys::sweep(swept.log));
        }
        self.batch.insert(
            &tables.upkeep,
            keys::forget(swept.forget_at, swept.log, swept.up_to),
            [],
        );
        for key in swept.expiry {
            self.batch.remove(&tables.expiry, key);
        }
        for key in swept.steps {
            self.batch.remove(&tables.steps, key);
        }
        for (file, bytes) in swept.dead {
            self.bodies.add_dead(file, bytes);
        }
        Ok(())
    }

    /// The rows of a log up to a seq go for good.
    fn forgotten(&mut self, forgotten: Forgotten) -> Result<(), StoreError> {
        let tables = self.tables;
        let Some(mut row) = self.log(forgotten.log)? else {
            return Ok(());
        };
        row.forgotten = row.forgotten.max(forgotten.up_to);
        self.put_log(forgotten.log, row);
        for key in forgotten.entries {
            self.batch.remove(&tables.entries, key);
        }
        for key in forgotten.blocks {
            self.batch.remove(&tables.clients, key);
        }
        for key in forgotten.targets {
            self.batch.remove(&tables.targets, key);
        }
        for key in forgotten.reactions {
            self.batch.remove(&tables.targets, key);
        }
        if let Some(task) = forgotten.finished {
            self.batch.remove(&tables.upkeep, task);
        }
        Ok(())
    }
}
