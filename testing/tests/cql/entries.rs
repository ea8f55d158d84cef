//! What the tests append, and what must be true of a log whatever happened to it.

use std::collections::{HashMap, HashSet};

use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Content, Entry, Envelope, Kind, TextContent};
use tidings_core::log::{Generation, LogId, LogPart, Seq};
use tidings_core::{ClientId, DeviceId, Time, UserId};
use tidings_store::{
    Append, AppendError, ClientIdSearch, Direction, ReadLog, StateSnapshot, Store, StoreError, Want,
};
use tidings_testing::chance::Chance;

pub(crate) const GENERATION: Generation = Generation([7; 16]);

/// Who says everything here.
pub(crate) const AUTHOR: UserId = UserId([1; 16]);

/// A log that no other test has.
pub(crate) fn new_log(chance: &mut Chance) -> LogId {
    LogId {
        owner: id(chance),
        part: LogPart::Conversation,
    }
}

pub(crate) fn new_client_id(chance: &mut Chance) -> ClientId {
    ClientId(id(chance))
}

pub(crate) fn id(chance: &mut Chance) -> [u8; 16] {
    let numbers = [chance.number(), chance.number()];
    let mut id = [0; 16];
    id[..8].copy_from_slice(&numbers[0].to_be_bytes());
    id[8..].copy_from_slice(&numbers[1].to_be_bytes());
    id
}

/// The time of every entry with this seq.
pub(crate) fn at(seq: Seq) -> Time {
    Time(1_700_000_000_000 + seq)
}

/// A message that says its client id.
pub(crate) fn message(seq: Seq, client_id: ClientId) -> Entry {
    entry(
        seq,
        client_id,
        Kind::Message,
        None,
        said(&text_of(client_id)),
    )
}

pub(crate) fn said(text: &str) -> Body {
    Body::Message(Content::Text(TextContent {
        text: text.to_owned(),
        ..TextContent::default()
    }))
}

fn text_of(client_id: ClientId) -> String {
    format!("{:032x}", u128::from_be_bytes(client_id.0))
}

/// An entry whose ordinal and time follow from its seq, so that those of several writers fit together.
pub(crate) fn entry(
    seq: Seq,
    client_id: ClientId,
    kind: Kind,
    target: Option<Seq>,
    body: Body,
) -> Entry {
    Entry {
        envelope: Envelope {
            seq,
            kind,
            rules: 1,
            author: AUTHOR,
            device: DeviceId([9; 16]),
            at: at(seq),
            client_id,
            target,
            lane: 0,
            expires: None,
            epoch: 0,
            counts: kind == Kind::Message,
            ordinal: seq,
        },
        body,
    }
}

/// The append of these entries and nothing else, at the head that their first seq says.
pub(crate) fn append_of(log: LogId, entries: Vec<Entry>) -> Append {
    Append {
        log,
        expected_head: entries.first().map_or(0, |first| first.seq() - 1),
        generation: GENERATION,
        entries,
        retention: Retention::Forever,
        erase: Vec::new(),
        marks: Vec::new(),
        state: None,
    }
}

/// As many messages above a head.
pub(crate) fn messages(chance: &mut Chance, head: Seq, count: u64) -> Vec<Entry> {
    (head + 1..=head + count)
        .map(|seq| message(seq, new_client_id(chance)))
        .collect()
}

/// A state without members as of a seq: a log is never trimmed past its state.
pub(crate) fn state_at(seq: Seq) -> StateSnapshot {
    StateSnapshot {
        seq,
        state: b"state".to_vec(),
        members: Vec::new(),
    }
}

pub(crate) async fn head_of(store: &dyn Store, log: LogId) -> Result<Seq, StoreError> {
    Ok(store.head(log).await?.map_or(0, |head| head.seq))
}

/// Everything that is served of a log.
pub(crate) async fn entries_of(store: &dyn Store, log: LogId) -> Vec<Entry> {
    let read = ReadLog {
        from: 1,
        direction: Direction::Forwards,
        limit: 1_000_000,
        bytes_max: usize::MAX,
        want: Want::Entries,
    };
    let page = store.read(log, read).await.expect("the log is read");
    assert!(page.complete);
    page.entries
}

/// What a store answered to the appending of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is in, with this number.
    In(Seq),
    /// It is not, and never will be.
    Not,
    /// Nobody knows.
    Unknown,
}

/// One entry that somebody tried to append, and the last word about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) client_id: ClientId,
    pub(crate) answer: Answer,
}

/// Appends one entry once, at the head that the store names.
pub(crate) async fn try_once(store: &dyn Store, log: LogId, client_id: ClientId) -> Option<Tried> {
    let seq = head_of(store, log).await.ok()? + 1;
    Some(try_at(store, log, seq, client_id).await)
}

/// Appends one entry once, as this one.
pub(crate) async fn try_at(store: &dyn Store, log: LogId, seq: Seq, client_id: ClientId) -> Tried {
    let append = append_of(log, vec![message(seq, client_id)]);
    let answer = match store.append(append).await {
        Ok(()) => Answer::In(seq),
        Err(AppendError::Conflict { .. } | AppendError::Store(_)) => Answer::Not,
        Err(AppendError::Repeated { seq }) => panic!("a new client id is that of entry {seq}"),
        Err(AppendError::Unknown(_)) => Answer::Unknown,
    };
    Tried { client_id, answer }
}

/// Appends one entry as a server does for a client that retries until it knows: so it is in exactly once.
pub(crate) async fn insist(store: &dyn Store, log: LogId, client_id: ClientId) -> Tried {
    loop {
        let found = store.find_client_id(log, AUTHOR, client_id, 0).await;
        if let Ok(ClientIdSearch::Found { seq, .. }) = found {
            let answer = Answer::In(seq);
            return Tried { client_id, answer };
        }
        let Ok(head) = head_of(store, log).await else {
            continue;
        };
        let append = append_of(log, vec![message(head + 1, client_id)]);
        match store.append(append).await {
            Ok(()) => {
                let answer = Answer::In(head + 1);
                return Tried { client_id, answer };
            }
            Err(AppendError::Repeated { seq }) => {
                let answer = Answer::In(seq);
                return Tried { client_id, answer };
            }
            Err(_) => {}
        }
    }
}

/// Checks a log against what its writers were told. Answers how many entries it has.
pub(crate) async fn check_log(store: &dyn Store, log: LogId, tried: &[Tried]) -> usize {
    let entries = entries_of(store, log).await;
    let seqs: Vec<Seq> = entries.iter().map(Entry::seq).collect();
    let expected: Vec<Seq> = (1..=entries.len() as u64).collect();
    assert_eq!(seqs, expected, "no gap, and no two entries at one seq");
    assert_eq!(
        head_of(store, log).await.expect("the head is read"),
        entries.len() as u64,
        "the log ends where its entries do"
    );
    let mut places: HashMap<ClientId, Seq> = HashMap::new();
    for entry in &entries {
        let client_id = entry.envelope.client_id;
        let twice = places.insert(client_id, entry.seq());
        assert_eq!(twice, None, "client id {client_id:?} is there twice");
        let whole = message(entry.seq(), client_id);
        assert_eq!(*entry, whole, "an entry is there with its body");
    }
    for Tried { client_id, answer } in tried {
        let place = places.get(client_id).copied();
        match answer {
            Answer::In(seq) => assert_eq!(place, Some(*seq), "{client_id:?} was acknowledged"),
            Answer::Not => assert_eq!(place, None, "{client_id:?} was refused"),
            Answer::Unknown => {}
        }
    }
    let known: HashSet<ClientId> = tried.iter().map(|tried| tried.client_id).collect();
    let strangers = places.keys().filter(|id| !known.contains(id)).count();
    assert_eq!(strangers, 0, "nobody tried to append them");
    entries.len()
}
