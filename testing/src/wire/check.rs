//! Devices at rest, compared with the log that the server serves and with each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::collections::{BTreeMap, HashMap};

use tidings_core::{ClientId, ConversationId};
use tidings_protocol::entry::Entry;
use tidings_protocol::sync::{Conversation, HistoryPage, InboxPage};

use super::device::Device;
use super::log::{is_erased, is_same};
use super::memory::Settled;
use crate::http::Http;

/// A conversation as the server serves it.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its head, settings and marks.
    pub summary: Conversation,
    /// Every entry that the asker may see.
    pub entries: Vec<Entry>,
}

/// Every entry of every conversation that a user may see, read page by page over HTTP.
pub async fn truth_for(port: u16, token: &str) -> BTreeMap<ConversationId, Served> {
    let mut http = Http::with_token(port, token);
    let mut truth = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/conversations?limit=50{cursor}");
        let page: InboxPage = http.get(&path).await.unwrap();
        for conversation in page.conversations {
            let id = conversation.conversation;
            let (entries, trimmed) = kept_of(&mut http, id).await;
            let mut summary = conversation;
            // It may have been trimmed further since.
            summary.trimmed = summary.trimmed.max(trimmed);
            truth.insert(id, Served { summary, entries });
        }
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return truth,
        }
    }
}

/// Every entry of a conversation that the asker may see.
pub async fn entries_of(http: &mut Http, id: ConversationId) -> Vec<Entry> {
    kept_of(http, id).await.0
}

/// As [`entries_of`], and as far as it was trimmed by then.
async fn kept_of(http: &mut Http, id: ConversationId) -> (Vec<Entry>, u64) {
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/v1/conversations/{id}/entries?after={after}");
        let page: HistoryPage = http.get(&path).await.unwrap();
        assert_eq!(page.from, after + 1, "a page begins where it was asked for");
        after = page.to;
        entries.extend(page.entries);
        if !page.more {
            assert_eq!(after, page.head);
            return (entries, page.trimmed);
        }
    }
}

/// Waits until all are level, then holds each against the server and against what it was told.
pub async fn all_level(port: u16, devices: &[&Device]) {
    // Twice: one who was level first may have got something since.
    for _ in 0..2 {
        let levels = devices.iter().map(|device| device.level());
        futures_util::future::join_all(levels).await;
    }
    for device in devices {
        check_device(port, device).await;
    }
}

async fn check_device(port: u16, device: &Device) {
    let truth = truth_for(port, &device.token).await;
    let memory = device.memory().clone();
    let name = &device.name;
    assert!(
        memory.violations.is_empty(),
        "{name}: {:#?}",
        memory.violations
    );
    for (id, Served { summary, entries }) in &truth {
        let log = memory.log(*id);
        assert!(!log.out, "{name}: is in {id}");
        assert_eq!(log.head, summary.head, "{name}: head of {id}");
        // What was seen in an earlier membership, or is no longer kept, a device may have all the same.
        let first = log.from.max(summary.trimmed + 1);
        let (had, served) = (since(log.entries.values(), first), since(entries, first));
        for (had, served) in had.iter().zip(&served) {
            assert!(is_same(had, served), "{name}: {had:?} {served:?}");
            if !is_erased(had) && !is_erased(served) {
                assert_eq!(had.content, served.content, "{name}");
            }
        }
        assert_eq!(had.len(), served.len(), "{name}: entries of {id}");
        check_each_once(name, entries);
        for (user, marks) in &log.ticks {
            let highest = marks.delivered.max(marks.shown);
            assert!(
                highest <= log.head,
                "{name}: {user} is beyond the head: {marks:?}"
            );
        }
    }
    let in_truth = |id: &ConversationId| truth.contains_key(id);
    for (id, log) in &memory.logs {
        assert!(log.out || in_truth(id), "{name}: {id} is not served");
    }
    check_acknowledged(name, &memory, &truth);
}

fn since<'e>(entries: impl IntoIterator<Item = &'e Entry>, first: u64) -> Vec<&'e Entry> {
    entries
        .into_iter()
        .filter(|entry| entry.seq >= first)
        .collect()
}

fn check_each_once(name: &str, entries: &[Entry]) {
    let mut before = 0;
    let mut client_ids: HashMap<ClientId, u64> = HashMap::new();
    let mut ordinal = None;
    for entry in entries {
        assert!(entry.seq > before, "{name}: {entry:?}");
        let next = ordinal.map(|ordinal: u64| ordinal + u64::from(entry.counts));
        if before + 1 == entry.seq && next.is_some() {
            assert_eq!(next, Some(entry.ordinal), "{name}: {entry:?}");
        }
        ordinal = Some(entry.ordinal);
        before = entry.seq;
        if let Some(client_id) = entry.client_id
            && let Some(first) = client_ids.insert(client_id, entry.seq)
        {
            panic!(
                "{name}: {client_id} is there twice, at {first} and {}",
                entry.seq
            );
        }
    }
}

/// Everything acknowledged is there, where it was said to be, and in the order in which it was sent.
fn check_acknowledged(
    name: &str,
    memory: &super::memory::Memory,
    truth: &BTreeMap<ConversationId, Served>,
) {
    let mut last: HashMap<ConversationId, u64> = HashMap::new();
    // What was refused for good is decided anew if the answer was lost and it is tried again, and may
    // succeed then, behind what was sent after it. Where nothing is refused, nothing overtakes.
    let some_refused = memory
        .settled
        .values()
        .any(|settled| matches!(settled, Settled::Refused(_)));
    let by_place: HashMap<(ConversationId, u64), &Entry> = truth
        .iter()
        .flat_map(|(id, served)| {
            let entries = served.entries.iter();
            entries.map(|entry| ((*id, entry.seq), entry))
        })
        .collect();
    for (client_id, _) in &memory.sent {
        let Some(Settled::Sent { conversation, seq }) = memory.settled.get(client_id) else {
            continue;
        };
        let log = memory.log(*conversation);
        let trimmed = truth
            .get(conversation)
            .map_or(0, |served| served.summary.trimmed);
        if log.out || *seq < log.from || *seq <= trimmed {
            continue;
        }
        let entry = by_place
            .get(&(*conversation, *seq))
            .unwrap_or_else(|| panic!("{name}: acknowledged {seq} of {conversation} is missing"));
        assert_eq!(entry.client_id, Some(*client_id), "{name}: {entry:?}");
        let before = last.insert(*conversation, *seq).unwrap_or(0);
        assert!(
            before < *seq || some_refused,
            "{name}: {seq} was sent after {before}"
        );
    }
}
