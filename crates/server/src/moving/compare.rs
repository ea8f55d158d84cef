//! Comparing one log in both stores, entry by entry, and bringing over what may have changed in entries that were
//! copied before: bodies erased since. Marks and steps are copied here too: they are read for it anyway.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::codec::{encode_body, encode_envelope};
use tidings_core::entry::{Body, Entry};
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_store::{Durability, LogHead, MemberQuery, Movable, StateSnapshot, Step, StoreError};

use super::pages::Pages;
use super::{LogRound, Move, MoveError, source, target};

/// Marks read and written at once.
const MARKS_PAGE: usize = 1_000;
/// Steps written at once.
const STEPS_PAGE: usize = 10_000;
/// Entries erased, and targets of alterations looked at, at once.
const SEQS_PAGE: usize = 100;

type MarkPlace = ([u8; 16], MarkKind, u32);

impl Move {
    /// Compares a log up to what was copied of it.
    pub(super) async fn compare_log(
        &self,
        log: LogId,
        state: Option<&StateSnapshot>,
        head: &LogHead,
        done: &mut LogRound,
    ) -> Result<(), MoveError> {
        let altered = self.compare_entries(log, head, done).await?;
        self.marks(log, head, done).await?;
        self.steps(log, head, done).await?;
        if !self.is_last {
            // The source goes on, so what is read of it now may be newer than what was copied.
            return Ok(());
        }
        let altered: Vec<Seq> = altered.into_iter().collect();
        for some in altered.chunks(SEQS_PAGE) {
            let ours = self.source.alterations(log, some.to_vec()).await;
            let theirs = self.target.alterations(log, some.to_vec()).await;
            if ours.map_err(source)? != theirs.map_err(target)? {
                let round = &mut done.round;
                round.differ(|| format!("what alters entries from {} of {log:?}", some[0]));
            }
        }
        let there = self.target.head(log).await.map_err(target)?;
        if there.as_ref() != Some(head) {
            done.round
                .differ(|| format!("the head of {log:?}: {head:?}, {there:?}"));
        }
        if let Some(state) = state
            && self.state_there(log).await.map_err(target)?.as_ref() != Some(state)
        {
            done.round
                .differ(|| format!("the state or the members of {log:?}"));
        }
        Ok(())
    }

    /// Answers which entries others alter.
    async fn compare_entries(
        &self,
        log: LogId,
        head: &LogHead,
        done: &mut LogRound,
    ) -> Result<BTreeSet<Seq>, MoveError> {
        let mut hashers = [blake3::Hasher::new(), blake3::Hasher::new()];
        let mut ours = Pages::of(&*self.source, log, 1, head.seq);
        let mut theirs = Pages::of(&*self.target, log, 1, head.seq);
        let (mut erase, mut altered) = (Vec::new(), BTreeSet::new());
        let mut other = theirs.next().await.map_err(target)?;
        while let Some(one) = ours.next().await.map_err(source)? {
            // The source may have forgotten what the target still has.
            while other.as_ref().is_some_and(|other| other.seq() < one.seq()) {
                other = theirs.next().await.map_err(target)?;
            }
            let is_there = other.as_ref().is_some_and(|other| other.seq() == one.seq());
            let Some(mut this) = other.take_if(|_| is_there) else {
                let round = &mut done.round;
                round.differ(|| format!("entry {} of {log:?} is missing", one.seq()));
                continue;
            };
            other = theirs.next().await.map_err(target)?;
            if one.body == Body::Erased && this.body != Body::Erased {
                erase.push(this.seq());
                this.body = Body::Erased;
            }
            if one != this {
                let round = &mut done.round;
                round.differ(|| format!("entry {} of {log:?}", one.seq()));
            }
            if one.seq() > head.trimmed {
                hash(&mut hashers[0], &one);
                hash(&mut hashers[1], &this);
                let alters = one.envelope.target.filter(|_| one.envelope.alters_target());
                altered.extend(alters.filter(|target| *target > head.trimmed));
            }
            done.round.compared += 1;
        }
        done.hashes = hashers.map(|hasher| *hasher.finalize().as_bytes());
        done.round.erased += erase.len() as u64;
        for some in erase.chunks(SEQS_PAGE) {
            let erased = self.target.erase(log, some.to_vec()).await;
            erased.map_err(target)?;
        }
        Ok(altered)
    }

    async fn marks(
        &self,
        log: LogId,
        head: &LogHead,
        done: &mut LogRound,
    ) -> Result<(), MoveError> {
        let ours = marks_of(&*self.source, log).await.map_err(source)?;
        let mut marks = Vec::with_capacity(ours.len());
        for mut mark in ours {
            // In further lanes the head's mark counts something else: see `chat::diffusion`.
            let is_count = mark.kind == MarkKind::Head && mark.lane != 0;
            if mark.value.seq > head.seq && !is_count {
                if !self.is_last {
                    // Of an entry that comes with the next round.
                    continue;
                }
                mark.value.seq = head.seq;
                mark.value.ordinal = mark.value.ordinal.min(head.ordinal);
            }
            marks.push(mark);
        }
        for some in marks.chunks(MARKS_PAGE) {
            let raised = self.target.raise_marks(some.to_vec(), Durability::Now);
            raised.await.map_err(target)?;
        }
        let theirs = marks_of(&*self.target, log).await.map_err(target)?;
        let theirs: BTreeMap<MarkPlace, MarkValue> = theirs
            .into_iter()
            .map(|mark| (place(&mark), mark.value))
            .collect();
        for mark in &marks {
            let there = theirs.get(&place(mark));
            // The target's may be higher: a round before saw it so.
            if there.is_none_or(|there| there.max(mark.value) != *there) {
                done.round
                    .differ(|| format!("a mark ({:?}) of {log:?}", mark.kind));
            }
        }
        done.round.marks += marks.len() as u64;
        Ok(())
    }

    async fn steps(
        &self,
        log: LogId,
        head: &LogHead,
        done: &mut LogRound,
    ) -> Result<(), MoveError> {
        let mut steps = self.source.all_steps(log).await.map_err(source)?;
        steps.retain(|step| step.seq > head.trimmed && step.seq <= head.seq);
        if steps.is_empty() {
            return Ok(());
        }
        done.round.steps += steps.len() as u64;
        for is_again in [false, true] {
            let theirs = self.target.all_steps(log).await.map_err(target)?;
            let theirs: BTreeMap<_, _> =
                theirs.iter().map(|step| (step_place(step), step)).collect();
            let lacks = |step: &Step| {
                theirs
                    .get(&step_place(step))
                    .is_none_or(|there| there.at > step.at)
            };
            let missing: Vec<Step> = steps.iter().filter(|step| lacks(step)).copied().collect();
            if is_again {
                for step in missing {
                    done.round
                        .differ(|| format!("a step of {log:?} at {}", step.seq));
                }
                continue;
            }
            for some in missing.chunks(STEPS_PAGE) {
                if self.target.keep_steps(some.to_vec()).await.is_err() {
                    // Too many wait to be written.
                    self.target.flush().await.map_err(target)?;
                    let kept = self.target.keep_steps(some.to_vec()).await;
                    kept.map_err(target)?;
                }
            }
        }
        Ok(())
    }

    async fn state_there(&self, log: LogId) -> Result<Option<StateSnapshot>, StoreError> {
        let Some(mut state) = self.target.read_state(log).await? else {
            return Ok(None);
        };
        let mut after = None;
        loop {
            let query = MemberQuery::From {
                after,
                limit: MARKS_PAGE,
            };
            let page = self.target.read_members(log, query).await?;
            let Some((last, _)) = page.last() else {
                return Ok(Some(state));
            };
            after = Some(*last);
            state.members.extend(page);
        }
    }
}

async fn marks_of(store: &dyn Movable, log: LogId) -> Result<Vec<Mark>, StoreError> {
    let (mut marks, mut after) = (Vec::new(), None);
    loop {
        let page = store.marks_of_log(log, after, MARKS_PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(marks);
        };
        after = Some(last.owner);
        marks.extend(page);
    }
}

fn place(mark: &Mark) -> MarkPlace {
    (mark.owner, mark.kind, mark.lane)
}

fn step_place(step: &Step) -> ([u8; 16], MarkKind, Seq) {
    (step.owner, step.kind, step.seq)
}

fn hash(hasher: &mut blake3::Hasher, entry: &Entry) {
    for bytes in [encode_envelope(&entry.envelope), encode_body(&entry.body)] {
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(&bytes);
    }
    // An erased deletion is encoded as one that is not.
    hasher.update(&[u8::from(entry.body == Body::Erased)]);
}
