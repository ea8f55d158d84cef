//! The check of which reactions stand: what the log says, held against the index by target.

use std::collections::{BTreeMap, HashMap};

use fjall::Readable;
use tidings_core::log::{LogId, Seq};
use tidings_core::{Body, Envelope, Kind, UserId};
use tidings_store::StoreError;

use super::{Check, name};
use crate::damaged_row;
use crate::keys::{self, ReactionKey};
use crate::rows;
use crate::tables::pair;

/// The reactions of one log, as far as its entries say.
pub(super) struct Reactions {
    log: LogId,
    /// What is reacted to up to here is served no more, and what is indexed of it is not looked at.
    trimmed: Seq,
    standing: BTreeMap<ReactionKey, Standing>,
    /// By target and author, the last reaction of which it is not known what it put on or took back.
    unknown: HashMap<(Seq, UserId), Seq>,
}

struct Standing {
    target: Seq,
    author: UserId,
    seq: Seq,
}

impl Reactions {
    pub(super) fn of(log: LogId, trimmed: Seq) -> Reactions {
        Reactions {
            log,
            trimmed,
            standing: BTreeMap::new(),
            unknown: HashMap::new(),
        }
    }

    /// Takes the next entry in; no body if it is erased or cannot be read.
    pub(super) fn take(&mut self, envelope: &Envelope, body: Option<&Body>) {
        let (author, seq) = (envelope.author, envelope.seq);
        let Some(target) = envelope.target.filter(|target| *target > self.trimmed) else {
            return;
        };
        if envelope.kind != Kind::Reaction {
            return;
        }
        let Some(Body::Reaction { emoji, on }) = body else {
            self.unknown.insert((target, author), seq);
            return;
        };
        let key = keys::reaction(self.log, target, author, emoji);
        if *on {
            let standing = Standing {
                target,
                author,
                seq,
            };
            self.standing.insert(key, standing);
        } else {
            self.standing.remove(&key);
        }
    }
}

impl Check<'_> {
    /// Each reaction that stands is indexed, and no other is.
    pub(super) fn reactions(&mut self, reactions: Reactions) -> Result<(), StoreError> {
        let Reactions {
            log,
            trimmed,
            mut standing,
            unknown,
        } = reactions;
        let name = name(log);
        let rows = self
            .snapshot
            .range(
                self.tables.targets.stored(),
                keys::altering(log, trimmed + 1)..=keys::altering(log, Seq::MAX),
            )
            .map(pair);
        for row in rows {
            let (key, value) = row?;
            if !keys::is_reaction(&key) {
                continue;
            }
            let seq = rows::decode_number(&value).map_err(damaged_row)?;
            let said = standing.remove(&keys::bytes(&key, 0)?);
            self.check(said.is_some_and(|said| said.seq == seq), || {
                format!(
                    "the index by target of {name} says that reaction {seq} stands, and it does not"
                )
            });
        }
        for Standing {
            target,
            author,
            seq,
        } in standing.into_values()
        {
            // One that is erased may have taken its place, or taken it back.
            let may_be_gone = unknown.get(&(target, author)).is_some_and(|by| *by > seq);
            self.check(may_be_gone, || {
                format!("reaction {seq} of {name} stands on entry {target}, and the index by target does not say so")
            });
        }
        Ok(())
    }
}
