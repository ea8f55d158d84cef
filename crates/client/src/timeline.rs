//! Open timelines: a window on the log without a gap, moved by loading from the local store, and by fetching
//! what is not there.

use std::collections::BTreeMap;

use tidings_core::log::Seq;
use tidings_core::{ConversationId, Kind, UserId};
use tidings_protocol::entry::Entry;

use crate::client::Client;
use crate::conversation::{Conversation, Fetch};
use crate::rows::{self, EntryRow};
use crate::storage::LoadPurpose;
use crate::store::{Read, Row, Table};
use crate::view::TimelineView;

/// Alterations that are read with one page.
const ALTERATIONS_MAX: usize = 10_000;
/// A window with fewer items than this is enlarged by itself …
const ITEMS_MIN: usize = 20;
/// … so often.
const ENLARGED_MAX: u32 = 8;

/// What is to be shown next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Newest,
    Around(Seq),
    Older,
    Newer,
}

#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) id: ConversationId,
    /// The window, both included; empty if `high < low`.
    low: Seq,
    high: Seq,
    pub(crate) entries: BTreeMap<Seq, EntryRow>,
    /// What alters the entries of the window, by target and seq.
    pub(crate) alterations: BTreeMap<(Seq, Seq), Entry>,
    /// The window ends at the position and moves on with it.
    pub(crate) follows: bool,
    wanted: Option<Wanted>,
    loading: bool,
    enlarged: u32,
    /// What must be fetched from the server before it can be loaded.
    pub(crate) fetch: Option<Fetch>,
    pub(crate) view: TimelineView,
    pub(crate) dirty: bool,
}

impl Timeline {
    pub(crate) fn new(id: ConversationId) -> Timeline {
        Timeline {
            id,
            low: 1,
            high: 0,
            entries: BTreeMap::new(),
            alterations: BTreeMap::new(),
            follows: false,
            wanted: None,
            loading: false,
            enlarged: 0,
            fetch: None,
            view: TimelineView::default(),
            dirty: true,
        }
    }

    fn is_empty(&self) -> bool {
        self.high < self.low
    }

    fn clear(&mut self) {
        *self = Timeline {
            view: std::mem::take(&mut self.view),
            ..Timeline::new(self.id)
        };
    }

    /// The ordinal at a seq of the window and how many entries up to there are the reader's own, if the
    /// window reaches from there to the head.
    pub(crate) fn counts_at(
        &self,
        seq: Seq,
        head: Seq,
        own: u64,
        me: UserId,
    ) -> Option<(u64, u64)> {
        if self.is_empty() || seq < self.low || self.high < head {
            return None;
        }
        let ordinal = self
            .entries
            .range(..=seq)
            .next_back()
            .map(|(_, row)| row.entry.ordinal)?;
        let above = self.entries.range(seq.saturating_add(1)..);
        let own_above = above
            .filter(|(_, row)| row.entry.counts && row.entry.author == me)
            .count() as u64;
        Some((ordinal, own.saturating_sub(own_above)))
    }

    /// Whether there is something beyond the ends of the window, as far as is known.
    fn ends(&self, conversation: &Conversation) -> (bool, bool) {
        if self.is_empty() {
            return (false, false);
        }
        let here = conversation
            .ranges
            .around(self.low)
            .is_some_and(|range| range.0 < self.low);
        let kept = self.low > conversation.trimmed.saturating_add(1);
        let older = self.low > conversation.from.max(1) && (here || kept);
        (older, !self.follows)
    }

    /// Keeps the window bounded by letting go of the end that is farther from where the user is.
    fn trim(&mut self, items_max: usize, keep_high: bool) {
        while self.entries.len() > items_max {
            if keep_high {
                let Some((seq, _)) = self.entries.pop_first() else {
                    return;
                };
                self.low = seq.saturating_add(1);
            } else {
                let Some((seq, _)) = self.entries.pop_last() else {
                    return;
                };
                self.high = seq.saturating_sub(1);
                self.follows = false;
            }
        }
        let (low, high) = (self.low, self.high);
        self.alterations
            .retain(|(target, _), _| (low..=high).contains(target));
    }
}

impl Client {
    fn timeline_mut(&mut self, id: ConversationId) -> Option<&mut Timeline> {
        self.timelines.iter_mut().find(|timeline| timeline.id == id)
    }

    pub(crate) fn open_timeline(&mut self, id: ConversationId, around: Option<Seq>) {
        let index = self.timelines.iter().position(|timeline| timeline.id == id);
        let mut timeline =
            index.map_or_else(|| Timeline::new(id), |index| self.timelines.remove(index));
        match around {
            Some(seq) => {
                timeline.clear();
                timeline.wanted = Some(Wanted::Around(seq));
            }
            None if timeline.follows => {}
            None => {
                timeline.clear();
                timeline.wanted = Some(Wanted::Newest);
            }
        }
        timeline.dirty = true;
        // The one that was used last stands last.
        self.timelines.push(timeline);
        if self.timelines.len() > self.config.limits.timelines_max.max(1) {
            self.timelines.remove(0);
        }
        self.drive_timeline(id);
    }

    pub(crate) fn extend_timeline(&mut self, id: ConversationId, older: bool) {
        if let Some(timeline) = self.timeline_mut(id)
            && timeline.wanted.is_none()
            && !timeline.is_empty()
        {
            timeline.wanted = Some(if older { Wanted::Older } else { Wanted::Newer });
            timeline.dirty = true;
        }
        self.drive_timeline(id);
    }

    /// Takes the next step towards what is wanted: a reading, a request, or nothing as it is here.
    pub(crate) fn drive_timeline(&mut self, id: ConversationId) {
        let page = self.config.limits.load_page_entries.max(2);
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let Some(timeline) = self.timelines.iter_mut().find(|timeline| timeline.id == id) else {
            return;
        };
        let Some(wanted) = timeline.wanted.filter(|_| !timeline.loading) else {
            return;
        };
        timeline.fetch = None;
        let position = conversation.position;
        if position == 0 {
            return;
        }
        let mut load = None;
        match wanted {
            Wanted::Newest => {
                let from = conversation
                    .range_from()
                    .max(position.saturating_sub(page - 1));
                timeline.follows = true;
                (timeline.low, timeline.high) = (from, position);
                load = Some((from, position));
            }
            Wanted::Around(seq) => match conversation.ranges.around(seq.max(1)) {
                Some((low, high)) => {
                    let (from, to) = (
                        low.max(seq.saturating_sub(page / 2)),
                        high.min(seq.saturating_add(page / 2)),
                    );
                    timeline.follows = to == position;
                    (timeline.low, timeline.high) = (from, to);
                    load = Some((from, to));
                }
                None if seq > conversation.head => timeline.wanted = None,
                None => timeline.fetch = Some(Fetch::Around(seq.max(1))),
            },
            Wanted::Older => {
                let low = timeline.low;
                match conversation.ranges.around(low) {
                    Some((from, _)) if from < low => {
                        load = Some((from.max(low.saturating_sub(page)), low - 1))
                    }
                    _ if !timeline.ends(conversation).0 => timeline.wanted = None,
                    _ => timeline.fetch = Some(Fetch::Before(low)),
                }
            }
            Wanted::Newer => {
                let high = timeline.high;
                match conversation.ranges.around(high) {
                    _ if timeline.follows || high >= position => {
                        timeline.follows = true;
                        timeline.wanted = None;
                    }
                    Some((_, to)) if to > high => {
                        load = Some((high.saturating_add(1), to.min(high.saturating_add(page))));
                    }
                    _ => timeline.fetch = Some(Fetch::Later(high)),
                }
            }
        }
        timeline.dirty = true;
        timeline.loading = load.is_some();
        if timeline.fetch.is_some() {
            self.want_fetch(id);
        }
        if let Some((from, to)) = load {
            let limit = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
            let read = |table, limit| Read {
                table,
                from: rows::seq_key(id, from),
                to: rows::seq_key(id, to.saturating_add(1)),
                limit,
            };
            let reads = vec![
                read(Table::Entries, limit),
                read(Table::Alterations, ALTERATIONS_MAX),
            ];
            self.load(reads, LoadPurpose::Timeline(id, from, to));
        }
    }

    pub(crate) fn timeline_loaded(
        &mut self,
        id: ConversationId,
        from: Seq,
        to: Seq,
        ranges: &[Vec<Row>],
    ) {
        let items_max = self.config.limits.timeline_items_max.max(ITEMS_MIN);
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let position = conversation.position;
        let Some(timeline) = self
            .timelines
            .iter_mut()
            .find(|timeline| timeline.id == id && timeline.loading)
        else {
            return;
        };
        let fits = match timeline.wanted {
            // A window that was cleared since has no use for it.
            Some(Wanted::Newest | Wanted::Around(_)) => timeline.low == from,
            Some(Wanted::Older) => to.saturating_add(1) == timeline.low,
            Some(Wanted::Newer) => timeline.high.saturating_add(1) == from,
            None => false,
        };
        timeline.loading = false;
        if !fits {
            return self.drive_timeline(id);
        }
        let wanted = timeline.wanted.take();
        for row in ranges.first().into_iter().flatten() {
            if let Some(row) = rows::decode::<EntryRow>(&row.value) {
                timeline.entries.entry(row.entry.seq).or_insert(row);
            }
        }
        for row in ranges.get(1).into_iter().flatten() {
            if let Some(entry) = rows::decode::<Entry>(&row.value)
                && let Some(target) = entry.target
            {
                timeline.alterations.insert((target, entry.seq), entry);
            }
        }
        timeline.low = timeline.low.min(from);
        timeline.high = timeline.high.max(to);
        if timeline.high == position {
            timeline.follows = true;
        }
        if timeline.follows {
            timeline.high = position;
        }
        timeline.trim(items_max, wanted != Some(Wanted::Older));
        timeline.dirty = true;
        self.after_loading(
            id,
            from,
            to,
            wanted == Some(Wanted::Newest) || wanted == Some(Wanted::Older),
        );
    }

    fn after_loading(&mut self, id: ConversationId, from: Seq, to: Seq, may_enlarge: bool) {
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let Some(timeline) = self.timelines.iter_mut().find(|timeline| timeline.id == id) else {
            return;
        };
        let (older, _) = timeline.ends(conversation);
        let here = conversation
            .ranges
            .around(timeline.low)
            .is_some_and(|range| range.0 < timeline.low);
        let few = timeline.entries.len() < ITEMS_MIN && timeline.enlarged < ENLARGED_MAX;
        let enlarge = may_enlarge && older && here && few;
        timeline.enlarged = if enlarge { timeline.enlarged + 1 } else { 0 };
        let authors: Vec<UserId> = timeline
            .entries
            .range(from..=to)
            .map(|(_, row)| row.entry.author)
            .collect();
        let erased: Vec<Seq> = timeline
            .alterations
            .range((from, 0)..=(to, Seq::MAX))
            .filter(|(_, entry)| entry.kind.0 == Kind::Delete)
            .map(|((target, _), _)| *target)
            .filter(|target| {
                timeline
                    .entries
                    .get(target)
                    .is_some_and(|row| row.entry.content.is_some())
            })
            .collect();
        for target in erased {
            self.erase_soon(id, target);
        }
        for author in authors {
            self.need_profile(author);
        }
        if enlarge {
            self.extend_timeline(id, true);
        }
    }

    /// What was asked of the server for a timeline has come (or will not).
    pub(crate) fn timeline_fetched(&mut self, id: ConversationId, fetch: Fetch) {
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let Some(timeline) = self.timelines.iter_mut().find(|timeline| timeline.id == id) else {
            return;
        };
        if timeline.fetch == Some(fetch) {
            timeline.fetch = None;
            timeline.dirty = true;
            let brought = match fetch {
                Fetch::Before(seq) => conversation.ranges.holds(seq.saturating_sub(1).max(1), seq),
                Fetch::Later(seq) => conversation.ranges.holds(seq, seq.saturating_add(1)),
                Fetch::Around(seq) => conversation.ranges.around(seq).is_some(),
                _ => true,
            };
            if !brought {
                timeline.wanted = None;
            }
        }
        self.drive_timeline(id);
    }

    pub(crate) fn timeline_entry(&mut self, id: ConversationId, row: EntryRow) {
        let Some(timeline) = self.timeline_mut(id) else {
            return;
        };
        let seq = row.entry.seq;
        if !timeline.is_empty() && seq >= timeline.low && (timeline.follows || seq <= timeline.high)
        {
            let author = row.entry.author;
            timeline.entries.insert(seq, row);
            timeline.dirty = true;
            self.need_profile(author);
        }
    }

    pub(crate) fn timeline_alteration(&mut self, id: ConversationId, target: Seq, entry: Entry) {
        if let Some(timeline) = self.timeline_mut(id)
            && !timeline.is_empty()
            && target >= timeline.low
            && (timeline.follows || target <= timeline.high)
        {
            timeline.alterations.insert((target, entry.seq), entry);
            timeline.dirty = true;
        }
    }

    /// The position moved over entries up to `to`, which the window has been given, and perhaps farther.
    pub(crate) fn timeline_position_moved(&mut self, id: ConversationId, to: Seq) {
        let items_max = self.config.limits.timeline_items_max.max(ITEMS_MIN);
        let Some(position) = self.conversations.get(&id).map(|known| known.position) else {
            return;
        };
        let Some(timeline) = self.timeline_mut(id) else {
            return;
        };
        if timeline.follows && !timeline.is_empty() && position > timeline.high {
            timeline.high = position;
            if position > to && !timeline.loading {
                // A piece that was fetched before was joined on: its entries are still to be loaded.
                timeline.high = to.max(timeline.low);
                timeline.follows = false;
                timeline.wanted = Some(Wanted::Newer);
            }
            timeline.trim(items_max, true);
            timeline.dirty = true;
        }
        self.drive_timeline(id);
    }

    pub(crate) fn timeline_reset(&mut self, id: ConversationId) {
        if let Some(timeline) = self.timeline_mut(id) {
            timeline.clear();
            timeline.wanted = Some(Wanted::Newest);
        }
    }

    /// An entry's content is gone.
    pub(crate) fn timeline_erased(&mut self, id: ConversationId, seq: Seq) {
        if let Some(timeline) = self.timeline_mut(id) {
            if let Some(row) = timeline.entries.get_mut(&seq) {
                row.entry.content = None;
                if let Some(alteration) = &mut row.alteration {
                    alteration.edit = None;
                }
            }
            for (_, entry) in timeline.alterations.range_mut((seq, 0)..=(seq, Seq::MAX)) {
                entry.content = None;
            }
            timeline.dirty = true;
        }
    }

    pub(crate) fn refresh_ends(&mut self, index: usize) {
        let Some(timeline) = self.timelines.get(index) else {
            return;
        };
        let (older, newer) = self
            .conversations
            .get(&timeline.id)
            .map_or((false, false), |known| timeline.ends(known));
        let id = timeline.id;
        let is_known = self
            .conversations
            .get(&id)
            .is_some_and(Conversation::is_known);
        let loading = timeline.loading || timeline.wanted.is_some() && is_known;
        let Some(timeline) = self.timelines.get_mut(index) else {
            return;
        };
        let view = &mut timeline.view;
        if (view.older, view.newer, view.loading) != (older, newer, loading) {
            (view.older, view.newer, view.loading) = (older, newer, loading);
            self.changes
                .push_back(crate::output::Change::TimelineEnds(id));
        }
    }
}
