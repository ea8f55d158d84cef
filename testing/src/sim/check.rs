//! What must hold at rest: every device equals the log.

use std::collections::{BTreeMap, BTreeSet};

use tidings_client::{Item, ItemBody, ItemState, Status};
use tidings_core::conversation::Member;
use tidings_core::entry::Content;
use tidings_core::log::Seq;
use tidings_core::mark::unread;
use tidings_core::{Body, ClientId, ConversationId, Entry, Kind, UserId};

use super::Simulation;
use super::reads::base;

impl Simulation {
    pub(super) fn check(&mut self) {
        self.check_log();
        for device in 0..self.devices.len() {
            self.check_device(device);
        }
    }

    /// Every wish became one entry, or was refused, and those of a device are in the order of its wishes.
    fn check_log(&mut self) {
        let mut seqs: BTreeMap<(ConversationId, UserId, ClientId), Seq> = BTreeMap::new();
        for (id, entries) in &self.server.committed {
            for (index, entry) in entries.iter().enumerate() {
                assert_eq!(entry.seq(), index as u64 + 1, "the log has no gaps");
                let key = (*id, entry.envelope.author, entry.envelope.client_id);
                let is_made_by_server = entry.envelope.client_id.0 == [0; 16];
                assert!(
                    is_made_by_server || seqs.insert(key, entry.seq()).is_none(),
                    "doubled: {entry:?}"
                );
            }
        }
        for device in &self.devices {
            for (conversation, wished) in &device.wished {
                let mut before = 0;
                for client_id in wished {
                    let place = seqs.get(&(*conversation, device.user, *client_id)).copied();
                    let refused = device.refused.contains(client_id);
                    let excused = refused || device.unsure.contains(client_id) || self.rolled_back;
                    assert!(
                        place.is_some() || excused,
                        "lost: {client_id} of {} in {conversation}",
                        device.id
                    );
                    assert!(
                        place.is_none() || !refused,
                        "refused, and sent all the same: {client_id}"
                    );
                    if let Some(seq) = place {
                        assert!(
                            seq > before,
                            "out of order: {client_id} of {} is {seq}",
                            device.id
                        );
                        before = seq;
                    }
                }
            }
        }
    }

    fn check_device(&mut self, index: usize) {
        let device = &self.devices[index];
        let (user, name) = (device.user, device.id);
        let client = device.client.as_ref().expect("every device runs");
        assert_eq!(client.status(), Status::Online, "{name}");
        assert_eq!(client.outbox_len(), 0, "{name}");
        assert_eq!(
            device.list,
            client.conversations(),
            "{name}: the list is not what its changes say"
        );
        let listed: BTreeSet<ConversationId> = device
            .list
            .iter()
            .filter(|view| !view.gone)
            .map(|view| view.conversation)
            .collect();
        let is_in: BTreeSet<ConversationId> =
            self.server.conversations_of(user).into_iter().collect();
        let failed_only = |id: &ConversationId| !self.server.committed.contains_key(id);
        let strangers: Vec<_> = listed
            .difference(&is_in)
            .filter(|id| !failed_only(id))
            .collect();
        assert!(strangers.is_empty(), "{name}: is not in {strangers:?}");
        let missing: Vec<_> = is_in.difference(&listed).collect();
        assert!(missing.is_empty(), "{name}: does not know {missing:?}");
        for id in is_in {
            self.check_conversation(index, id);
        }
    }

    fn check_conversation(&mut self, index: usize, id: ConversationId) {
        let (user, name) = (self.devices[index].user, self.devices[index].id);
        let hot = self.server.hot(id);
        let (state, marks) = (hot.state.clone(), hot.marks_of(user));
        let member = hot.member_in(user).expect("is in").clone();
        let present: Vec<UserId> = hot
            .members
            .iter()
            .filter(|(_, member)| member.is_in())
            .map(|(user, _)| *user)
            .collect();
        let all: BTreeMap<UserId, (Seq, Seq)> = present
            .iter()
            .map(|user| (*user, hot.marks_of(*user)))
            .map(|(user, marks)| (user, (marks.delivered, marks.shown)))
            .collect();
        let client = self.devices[index].client.as_ref().expect("runs");
        let details = client.conversation(id).expect("is known");
        let place = format!("{name} in {id}");
        assert_eq!(
            (details.head, details.position),
            (state.seq, state.seq),
            "{place}: head and position"
        );
        assert_eq!(details.settings.name, state.settings.name, "{place}");
        assert_eq!(details.member_count, state.member_count, "{place}");
        let told: BTreeMap<UserId, (Seq, Seq)> = details
            .members
            .iter()
            .map(|member| (member.user, (member.delivered, member.shown)))
            .collect();
        // Of one's own marks a device is not always told, and has no use for them.
        let others = |marks: &BTreeMap<UserId, (Seq, Seq)>| {
            let mut others = marks.clone();
            others.remove(&user);
            others
        };
        assert_eq!(others(&told), others(&all), "{place}: marks");
        for (other, (delivered, _)) in &all {
            assert_eq!(*delivered, state.seq, "{place}: not delivered to {other}");
        }
        let unread = unread(state.ordinal, member.own, base(marks.read, member.joined));
        assert_eq!(
            details.view.unread, unread,
            "{place}: unread, read up to {:?}",
            marks.read
        );
        let items = self.read_timeline(index, id);
        self.check_items(&place, index, id, &member, &items, &all);
    }

    /// Everything that the device shows of a conversation, page by page.
    fn read_timeline(&mut self, index: usize, id: ConversationId) -> BTreeMap<Seq, Item> {
        let mut items = BTreeMap::new();
        self.with_client(index, |client, now| client.close(now, id));
        self.devices[index].timelines.clear();
        self.with_client(index, |client, now| client.open(now, id));
        for _ in 0..200 {
            let mut waited = 0;
            while self.timeline(index, id).loading && waited < 5_000 {
                self.run_for(10);
                waited += 10;
            }
            let view = self.timeline(index, id);
            assert!(!view.loading, "a timeline of {id} does not load");
            // No change is told of a timeline that has nothing in it.
            let told = self.devices[index].timelines.get(&id);
            assert_eq!(
                told.map_or(&[][..], |items| &items[..]),
                &view.items[..],
                "the items are what their changes say"
            );
            let mut before = 0;
            for item in &view.items {
                let Some(seq) = item.seq else {
                    assert!(
                        matches!(item.state, ItemState::Failed(_)),
                        "what waits was sent: {item:?}"
                    );
                    continue;
                };
                assert!(seq > before, "items in the order of the log");
                before = seq;
                items.insert(seq, item.clone());
            }
            self.trace(|| {
                let seqs: Vec<Option<Seq>> = view.items.iter().map(|item| item.seq).collect();
                format!("{id} older {} newer {}: {seqs:?}", view.older, view.newer)
            });
            if !view.older {
                return items;
            }
            self.with_client(index, |client, now| client.load_older(now, id));
        }
        panic!("a timeline of {id} has no beginning");
    }

    fn timeline(&self, index: usize, id: ConversationId) -> tidings_client::TimelineView {
        let client = self.devices[index].client.as_ref().expect("runs");
        client.timeline(id).expect("is open").clone()
    }

    fn run_for(&mut self, millis: u64) {
        let end = self.now + millis;
        while self
            .events
            .first_key_value()
            .is_some_and(|((time, _), _)| *time <= end)
        {
            let Some(((time, _), event)) = self.events.pop_first() else {
                return;
            };
            self.now = time;
            self.server.steady = time;
            self.server.now = tidings_core::Time(
                (super::EPOCH_MS + time).saturating_add_signed(self.server_offset),
            );
            self.happens(event);
        }
        self.now = end;
    }

    fn check_items(
        &mut self,
        place: &str,
        index: usize,
        id: ConversationId,
        member: &Member,
        items: &BTreeMap<Seq, Item>,
        marks: &BTreeMap<UserId, (Seq, Seq)>,
    ) {
        let user = self.devices[index].user;
        let trimmed = self.server.hot(id).trimmed;
        let members = self.server.hot(id).members.clone();
        let now = self.server.now;
        let entries = self.server.committed.get(&id).cloned().unwrap_or_default();
        // What was trimmed before this member came (back), or before it had to begin anew, was owed to it no more.
        let begun_anew = self.rolled_back;
        let optional = |seq: Seq| seq <= trimmed && (seq < member.joined.seq || begun_anew);
        let visible =
            |entry: &&Entry| member.may_see(entry.seq()) && !entry.envelope.alters_target();
        for entry in entries.iter().filter(visible) {
            let seq = entry.seq();
            let Some(item) = items.get(&seq) else {
                assert!(
                    optional(seq),
                    "{place}: {seq} is missing ({:?})",
                    entry.envelope.kind
                );
                continue;
            };
            assert_eq!(item.author, entry.envelope.author, "{place}: {seq}");
            if entry.envelope.kind != Kind::Message {
                assert_eq!(item.state, ItemState::Plain);
                continue;
            }
            let expired = entry.envelope.expires.is_some_and(|expires| expires <= now);
            let expected = expected(entry, &entries, member, user, expired);
            // When a message's time is up is the server's to say, and its clock is wrong at times.
            let vanishes = entry.envelope.expires.is_some();
            let is_right = shown(item) == expected || vanishes;
            assert!(is_right, "{place}: {seq} is {item:?}, not {expected:?}");
            if item.author == user {
                let others = members
                    .iter()
                    .filter(|(other, _)| **other != user && marks.contains_key(other));
                let recipients = others
                    .filter(|(_, other)| other.joined.seq <= seq)
                    .map(|(other, _)| marks[other]);
                let all = recipients.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
                let state = match all {
                    Some((_, read)) if read >= seq => ItemState::Read,
                    Some((delivered, _)) if delivered >= seq => ItemState::Delivered,
                    _ => ItemState::Sent,
                };
                assert_eq!(item.state, state, "{place}: ticks of {seq}");
            }
        }
        let known: BTreeSet<Seq> = entries.iter().filter(visible).map(Entry::seq).collect();
        let strangers: Vec<&Seq> = items.keys().filter(|seq| !known.contains(seq)).collect();
        assert!(strangers.is_empty(), "{place}: shows {strangers:?}");
        self.run_for(300);
        for entry in entries
            .iter()
            .filter(|entry| entry.envelope.kind == Kind::Delete)
        {
            let target = entry
                .envelope
                .target
                .and_then(|seq| entries.get(seq as usize - 1));
            if let Some(text) = target
                .and_then(text_of)
                .filter(|_| member.may_see(entry.seq()))
            {
                assert!(
                    !self.devices[index].disk_holds(&text),
                    "{place}: a deleted message is on the disk"
                );
            }
        }
    }
}

/// A message as it must be shown: its text (`None` if it is gone), and its reactions.
type Shown = (Option<String>, BTreeMap<String, (u64, bool)>);

fn text_of(entry: &Entry) -> Option<String> {
    match &entry.body {
        Body::Message(Content::Text(text)) | Body::Edit(Content::Text(text)) => {
            Some(text.text.clone())
        }
        _ => None,
    }
}

fn expected(
    message: &Entry,
    entries: &[Entry],
    member: &Member,
    user: UserId,
    expired: bool,
) -> Shown {
    let mut text = text_of(message);
    let mut reactions: BTreeMap<String, BTreeSet<UserId>> = BTreeMap::new();
    let mut deleted = false;
    for entry in entries
        .iter()
        .filter(|entry| entry.envelope.target == Some(message.seq()))
    {
        match &entry.body {
            Body::Edit(_) if member.may_see(entry.seq()) => text = text_of(entry),
            Body::Delete => deleted = true,
            Body::Reaction { emoji, on: true } => {
                reactions
                    .entry(emoji.clone())
                    .or_default()
                    .insert(entry.envelope.author);
            }
            Body::Reaction { emoji, on: false } => {
                reactions
                    .entry(emoji.clone())
                    .or_default()
                    .remove(&entry.envelope.author);
            }
            _ => {}
        }
    }
    if deleted || expired {
        return (None, BTreeMap::new());
    }
    reactions.retain(|_, users| !users.is_empty());
    let sum = |users: &BTreeSet<UserId>| (users.len() as u64, users.contains(&user));
    (
        text,
        reactions
            .iter()
            .map(|(emoji, users)| (emoji.clone(), sum(users)))
            .collect(),
    )
}

fn shown(item: &Item) -> Shown {
    let text = match &item.body {
        ItemBody::Message(content) => Some(content.text.clone()),
        _ => None,
    };
    let reactions = item
        .reactions
        .iter()
        .map(|one| (one.emoji.clone(), (one.count, one.mine)))
        .collect();
    (text, reactions)
}
