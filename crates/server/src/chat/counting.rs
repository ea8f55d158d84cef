//! How many entries that count lie in a part of a log, and how many of them are a user's own.
//!
//! In: the places of read marks (`marks`) and of trimmed marks (`inbox`). Next: the counts go with the mark,
//! so that unread is a subtraction ever after.

use tidings_core::UserId;
use tidings_core::log::Seq;
use tidings_core::mark::MarkValue;
use tidings_protocol::Problem;
use tidings_store::{Direction, ReadLog, Want};

use super::loaded::{Brief, Loaded};
use super::{Chat, Conversation, problem_of_store};

/// Envelopes read at a time while counting.
const COUNT_PAGE: usize = 1_000;

/// Entries that count, in a range of a log.
pub(super) struct Counted {
    pub all: u64,
    /// Those of one user.
    pub own: u64,
    /// Whether every envelope of the range is still kept.
    pub complete: bool,
}

impl Chat {
    /// Counts by reading envelopes from the read mark up to `seq`, or from `seq` up to the head, whichever
    /// is shorter. As a mark only rises, all its steps together read a log once at most.
    pub(super) async fn count_far(
        &self,
        conversation: &Conversation,
        user: UserId,
        seq: Seq,
        before: MarkValue,
        (head, head_ordinal, own_total): (Seq, u64, u64),
    ) -> Result<(u64, u64), Problem> {
        let upwards = seq.saturating_sub(before.seq) <= head.saturating_sub(seq);
        if upwards {
            let counted = self.count(conversation, user, before.seq + 1, seq).await?;
            if counted.complete {
                return Ok((before.ordinal + counted.all, before.own + counted.own));
            }
        }
        // Envelopes are forgotten from the beginning, never from the end.
        let counted = self.count(conversation, user, seq + 1, head).await?;
        Ok((
            head_ordinal.saturating_sub(counted.all),
            own_total.saturating_sub(counted.own),
        ))
    }

    /// Counts the entries that count in a range of envelopes, and a user's own among them.
    pub(super) async fn count(
        &self,
        conversation: &Conversation,
        user: UserId,
        mut from: Seq,
        last: Seq,
    ) -> Result<Counted, Problem> {
        let mut counted = Counted {
            all: 0,
            own: 0,
            complete: true,
        };
        while from <= last {
            let read = ReadLog {
                from,
                direction: Direction::Forwards,
                limit: COUNT_PAGE,
                bytes_max: usize::MAX,
                want: Want::Envelopes,
            };
            let page = self
                .store
                .read(conversation.log(), read)
                .await
                .map_err(problem_of_store)?;
            counted.complete &= page.entries.first().map(|entry| entry.seq()) == Some(from);
            let Some(end) = page.entries.last().map(|entry| entry.seq()) else {
                break;
            };
            for entry in page.entries.iter().take_while(|entry| entry.seq() <= last) {
                counted.all += u64::from(entry.envelope.counts);
                counted.own += u64::from(entry.envelope.counts && entry.envelope.author == user);
            }
            from = end + 1;
            tokio::task::yield_now().await;
        }
        Ok(counted)
    }
}

/// Counts with the newest entries that are in memory. `None` if they do not reach back to `seq`.
pub(super) fn count_near(
    loaded: &Loaded,
    user: UserId,
    seq: Seq,
    own_total: u64,
) -> Option<(u64, u64)> {
    let above = |brief: &&Brief| brief.seq > seq;
    let own_above = |count: usize| own_total.saturating_sub(count as u64);
    let ordinal = if seq == loaded.state.seq {
        loaded.state.ordinal
    } else {
        loaded
            .tail
            .iter()
            .rev()
            .find(|brief| brief.seq == seq)?
            .ordinal
    };
    let own = loaded
        .tail
        .iter()
        .rev()
        .take_while(above)
        .filter(|brief| brief.counts && brief.author == user)
        .count();
    Some((ordinal, own_above(own)))
}
