//! Copying one log: its state, entries, where it is trimmed, marks and steps. Next: [`super::compare`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::codec::decode_state;
use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{LogId, Seq};
use tidings_store::{Append, Beginning, LogHead, MemberQuery, StateSnapshot, StoreError};

use super::pages::Pages;
use super::{LogRound, Move, MoveError, Round, of_append, source, target};

/// Members read at once.
const MEMBERS_PAGE: usize = 1_000;
/// How often a state that changes while it is read is read again.
const STATE_TRIES: usize = 20;
/// How often an append is tried of which nobody knows whether it happened.
const APPEND_TRIES: usize = 10;
/// Entries of one append.
const APPEND_ENTRIES_MAX: usize = 100;
/// Bytes of bodies of one append, about.
const APPEND_BYTES_MAX: usize = 256 * 1024;

/// How long a log keeps its bodies, as its entries go by.
#[derive(Clone, Copy, Debug)]
struct Keeping {
    /// What is at or below is said by the state.
    as_of: Seq,
    retention: Retention,
}

impl Keeping {
    fn of(state: Option<&StateSnapshot>) -> Keeping {
        let known = state.and_then(|state| Some((state.seq, decode_state(&state.state).ok()?)));
        let (as_of, retention) = known.map_or((0, Retention::Forever), |(seq, state)| {
            (seq, state.settings.retention)
        });
        Keeping { as_of, retention }
    }

    fn pass(&mut self, entry: &Entry) {
        if entry.seq() <= self.as_of {
            return;
        }
        match &entry.body {
            Body::Create { settings, .. } => self.retention = settings.retention,
            Body::Settings(change) => {
                self.retention = change.retention.unwrap_or(self.retention);
            }
            _ => {}
        }
    }
}

impl Move {
    /// Copies what the target lacks of a log, and compares it.
    pub(super) async fn log(&self, log: LogId, count: &AtomicU64) -> Result<LogRound, MoveError> {
        let mut done = LogRound {
            round: Round::default(),
            copied_to: None,
            hashes: [[0; 32]; 2],
        };
        // The state before the head, so that it is not above.
        let state = self.state(log).await.map_err(source)?;
        let Some(head) = self.source.head(log).await.map_err(source)? else {
            return Ok(done);
        };
        // What goes as soon as it is delivered would stay in the target until the next round, which may never come.
        if !self.is_last
            && self
                .keeps_until_delivered(log, state.as_ref(), &head)
                .await?
        {
            done.round.logs_for_the_last = 1;
            return Ok(done);
        }
        let there = self.target.head(log).await.map_err(target)?;
        if there.is_some_and(|there| there.generation != head.generation) {
            return Err(MoveError::Restored { log });
        }
        if let Some(state) = &state {
            let written = self.target.write_state(log, state.clone()).await;
            written.map_err(target)?;
        }
        let from = there.map_or(0, |there| there.seq);
        if from > head.seq {
            done.round
                .differ(|| format!("{log:?} is longer in the target"));
            return Ok(done);
        }
        self.entries(log, state.as_ref(), &head, from, count)
            .await?;
        done.round.copied = head.seq - from;
        self.target.trim(log, head.trimmed).await.map_err(target)?;
        done.round.logs = 1;
        done.copied_to = Some(head.seq);
        self.compare_log(log, state.as_ref(), &head, &mut done)
            .await?;
        Ok(done)
    }

    /// The source's state of a log with all members, as of one moment.
    async fn state(&self, log: LogId) -> Result<Option<StateSnapshot>, StoreError> {
        for _ in 0..STATE_TRIES {
            let Some(mut state) = self.source.read_state(log).await? else {
                return Ok(None);
            };
            let mut after = None;
            loop {
                let query = MemberQuery::From {
                    after,
                    limit: MEMBERS_PAGE,
                };
                let page = self.source.read_members(log, query).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                state.members.extend(page);
            }
            let again = self.source.read_state(log).await?;
            if again.is_some_and(|again| again.seq == state.seq) {
                return Ok(Some(state));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(StoreError::Unavailable(format!(
            "the state of {log:?} changes all the time"
        )))
    }

    async fn keeps_until_delivered(
        &self,
        log: LogId,
        state: Option<&StateSnapshot>,
        head: &LogHead,
    ) -> Result<bool, MoveError> {
        let mut keeping = Keeping::of(state);
        let mut pages = Pages::of(&*self.source, log, keeping.as_of + 1, head.seq);
        while let Some(entry) = pages.next().await.map_err(source)? {
            keeping.pass(&entry);
        }
        Ok(keeping.retention == Retention::UntilDelivered)
    }

    /// Appends what the target lacks above `from`.
    async fn entries(
        &self,
        log: LogId,
        state: Option<&StateSnapshot>,
        head: &LogHead,
        from: Seq,
        count: &AtomicU64,
    ) -> Result<(), MoveError> {
        let mut keeping = Keeping::of(state);
        let mut pages = Pages::of(&*self.source, log, from + 1, head.seq);
        let mut next = from + 1;
        loop {
            let page = pages.page().await.map_err(source)?;
            let beginning = |seq, ordinal, at| Beginning {
                generation: head.generation,
                seq,
                ordinal,
                at,
                retention: keeping.retention,
            };
            let Some(first) = page.first().map(|entry| &entry.envelope) else {
                if next <= head.seq {
                    // Nothing is kept but the number.
                    let beginning = beginning(head.seq, head.ordinal, head.at);
                    let begun = self.target.begin_at(log, beginning).await;
                    begun.map_err(target)?;
                }
                return Ok(());
            };
            if first.seq > next {
                let ordinal = first.ordinal.saturating_sub(u64::from(first.counts));
                let beginning = beginning(first.seq - 1, ordinal, first.at);
                let begun = self.target.begin_at(log, beginning).await;
                begun.map_err(target)?;
            }
            next = page.last().map_or(next, Entry::seq) + 1;
            let copied = page.len() as u64;
            for part in parts(page, &mut keeping) {
                self.append(log, head, part).await?;
            }
            count.fetch_add(copied, Ordering::Relaxed);
        }
    }

    /// Appends entries that share a retention, until it is known that they are in.
    async fn append(&self, log: LogId, head: &LogHead, part: Part) -> Result<(), MoveError> {
        let Part {
            retention,
            mut entries,
        } = part;
        let Some(last) = entries.last().map(Entry::seq) else {
            return Ok(());
        };
        let mut erase = Vec::new();
        if let [entry] = entries.as_mut_slice()
            && is_lost_reaction(entry, head.trimmed)
            && let Some(body) = self.what_it_took_back(log, entry).await?
        {
            entry.body = body;
            erase.push(entry.seq());
        }
        for _ in 0..APPEND_TRIES {
            let Some(first) = entries.first().map(Entry::seq) else {
                return Ok(());
            };
            let append = Append {
                log,
                expected_head: first - 1,
                generation: head.generation,
                entries: entries.clone(),
                retention,
                erase: erase.clone(),
                marks: Vec::new(),
                state: None,
            };
            let Err(error) = self.target.append(append).await else {
                return Ok(());
            };
            // It may have happened, or a part of it.
            let now = self.target.head(log).await.map_err(target)?;
            let now = now.map_or(0, |now| now.seq);
            if now >= last {
                let erased = self.target.erase(log, erase).await;
                return erased.map_err(target);
            }
            let error = of_append(error);
            if now < first && !matches!(error, StoreError::Unavailable(_)) {
                return Err(target(error));
            }
            entries.retain(|entry| entry.seq() > now);
        }
        Err(target(StoreError::Unavailable(format!(
            "{log:?} could not be appended to"
        ))))
    }

    /// A reaction whose body is erased may have taken another back that would stand again without it. Then it
    /// is appended as what takes that back, and erased with the append.
    async fn what_it_took_back(
        &self,
        log: LogId,
        entry: &Entry,
    ) -> Result<Option<Body>, MoveError> {
        let envelope = &entry.envelope;
        let Some(on) = envelope.target else {
            return Ok(None);
        };
        let theirs = self.target.alterations(log, vec![on]).await;
        let ours = self.source.alterations(log, vec![on]).await;
        let (theirs, ours) = (theirs.map_err(target)?, ours.map_err(source)?);
        let stand = |reaction| ours.iter().any(|ours| ours.reactions.contains(reaction));
        let too_many = theirs
            .iter()
            .flat_map(|theirs| &theirs.reactions)
            .find(|reaction| reaction.1 == envelope.author && !stand(reaction));
        Ok(too_many.map(|(emoji, ..)| Body::Reaction {
            emoji: emoji.clone(),
            on: false,
        }))
    }
}

/// Entries of one append.
struct Part {
    retention: Retention,
    entries: Vec<Entry>,
}

/// Cuts a page where the retention changes, where it gets too long for one append, and around reactions of which
/// it is not known what they did.
fn parts(page: Vec<Entry>, keeping: &mut Keeping) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let (mut bytes, mut is_whole) = (0, true);
    for entry in page {
        keeping.pass(&entry);
        let size = tidings_core::codec::encode_body(&entry.body).len();
        let stands_alone = is_lost_reaction(&entry, 0);
        match parts.last_mut() {
            Some(part)
                if !is_whole
                    && !stands_alone
                    && part.retention == keeping.retention
                    && part.entries.len() < APPEND_ENTRIES_MAX
                    && bytes + size <= APPEND_BYTES_MAX =>
            {
                bytes += size;
                part.entries.push(entry);
            }
            _ => {
                bytes = size;
                parts.push(Part {
                    retention: keeping.retention,
                    entries: vec![entry],
                });
            }
        }
        is_whole = stands_alone;
    }
    parts
}

fn is_lost_reaction(entry: &Entry, trimmed: Seq) -> bool {
    let envelope = &entry.envelope;
    entry.body == Body::Erased
        && envelope.kind == Kind::Reaction
        && envelope.target.is_some_and(|target| target > trimmed)
}
