//! What the rules are written with: waiting for futures, and short ways to say what is appended.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Content, Entry, Envelope, Kind, Opaque, TextContent};
use tidings_core::log::{Generation, LogId, LogPart, SEQ_MAX, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ClientId, DeviceId, Time, UserId};

use crate::{
    Alterations, Append, ClientIdSearch, Direction, LogHead, Page, ReadLog, StateSnapshot, Store,
    Want,
};

/// Waits for a future on this thread; another one may wake it.
pub fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(super) const GENERATION: Generation = Generation([7; 16]);

/// Log number `number` of a few.
pub(super) fn log(number: u8) -> LogId {
    LogId {
        owner: [number; 16],
        part: LogPart::Conversation,
    }
}

pub(super) fn user(number: u8) -> UserId {
    UserId([number; 16])
}

/// The client id of the entry with this seq, as [`entry`] makes it.
pub(super) fn client_id(seq: Seq) -> ClientId {
    ClientId((0x7000_0000_0000_0000_u128 + u128::from(seq)).to_be_bytes())
}

/// The time of the entry with this seq, as [`entry`] makes it.
pub(super) fn at(seq: Seq) -> Time {
    Time(1_700_000_000_000 + seq)
}

/// An entry by user 1 that does not count. Its ordinal is its seq, as if all others counted.
pub(super) fn entry(seq: Seq, kind: Kind, target: Option<Seq>, body: Body) -> Entry {
    Entry {
        envelope: Envelope {
            seq,
            kind,
            rules: 1,
            author: user(1),
            device: DeviceId([9; 16]),
            at: at(seq),
            client_id: client_id(seq),
            target,
            lane: 0,
            expires: None,
            epoch: 0,
            counts: false,
            ordinal: seq,
        },
        body,
    }
}

/// A message by user 1 that says its seq.
pub(super) fn message(seq: Seq) -> Entry {
    let content = TextContent {
        text: format!("message {seq}"),
        ..TextContent::default()
    };
    let mut message = entry(
        seq,
        Kind::Message,
        None,
        Body::Message(Content::Text(content)),
    );
    message.envelope.counts = true;
    message
}

/// A message whose body has this many bytes and something, and cannot be made smaller.
pub(super) fn large_message(seq: Seq, bytes: usize) -> Entry {
    let mut state = seq;
    let noise = std::iter::repeat_with(|| {
        // xorshift64* by Vigna, 2014.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    });
    let opaque = Opaque {
        content_type: "application/octet-stream".to_owned(),
        bytes: noise.take(bytes).collect(),
    };
    Entry {
        body: Body::Message(Content::Opaque(opaque)),
        ..message(seq)
    }
}

/// A message that vanishes at this time.
pub(super) fn vanishing(seq: Seq, expires: Time) -> Entry {
    let mut message = message(seq);
    message.envelope.expires = Some(expires);
    message
}

/// A reaction of a user.
pub(super) fn reaction(seq: Seq, by: UserId, target: Seq, emoji: &str, on: bool) -> Entry {
    let mut reaction = entry(
        seq,
        Kind::Reaction,
        Some(target),
        Body::Reaction {
            emoji: emoji.to_owned(),
            on,
        },
    );
    reaction.envelope.author = by;
    reaction
}

/// The append of these entries and nothing else, at the head that their first seq says.
pub(super) fn append_of(log: LogId, entries: Vec<Entry>) -> Append {
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

/// Appends these entries at the head that their first seq says.
pub(super) fn put(store: &dyn Store, log: LogId, entries: Vec<Entry>) {
    wait(store.append(append_of(log, entries))).unwrap();
}

/// Makes a log of messages 1 to `head`, with a state so that it can be trimmed.
pub(super) fn fill(store: &dyn Store, log: LogId, head: Seq) {
    put(store, log, (1..=head).map(message).collect());
    wait(store.write_state(log, snapshot(head, &[]))).unwrap();
}

pub(super) fn head(store: &dyn Store, log: LogId) -> Option<LogHead> {
    wait(store.head(log)).unwrap()
}

/// Reads without bounds that matter.
pub(super) fn read(
    store: &dyn Store,
    log: LogId,
    from: Seq,
    direction: Direction,
    want: Want,
) -> Page {
    read_page(
        store,
        log,
        ReadLog {
            from,
            direction,
            limit: 1_000_000,
            bytes_max: usize::MAX,
            want,
        },
    )
}

pub(super) fn read_page(store: &dyn Store, log: LogId, read: ReadLog) -> Page {
    wait(store.read(log, read)).unwrap()
}

/// Everything that is served of a log. Both directions are read, and agree.
pub(super) fn read_all(store: &dyn Store, log: LogId) -> Vec<Entry> {
    let forwards = read(store, log, 1, Direction::Forwards, Want::Entries);
    let mut backwards = read(store, log, SEQ_MAX, Direction::Backwards, Want::Entries);
    assert!(forwards.complete && backwards.complete);
    backwards.entries.reverse();
    assert_eq!(
        forwards.entries, backwards.entries,
        "both directions read the same"
    );
    forwards.entries
}

pub(super) fn seqs(entries: &[Entry]) -> Vec<Seq> {
    entries.iter().map(Entry::seq).collect()
}

/// What alters these entries, in the order of their seqs.
pub(super) fn alterations(store: &dyn Store, log: LogId, targets: &[Seq]) -> Vec<Alterations> {
    let mut all = wait(store.alterations(log, targets.to_vec())).unwrap();
    all.sort_by_key(|alterations| alterations.target);
    all
}

pub(super) fn find(
    store: &dyn Store,
    log: LogId,
    by: UserId,
    client_id: ClientId,
    above: Seq,
) -> ClientIdSearch {
    wait(store.find_client_id(log, by, client_id, above)).unwrap()
}

/// A state as of `seq` that says so, and members who say so too.
pub(super) fn snapshot(seq: Seq, members: &[u8]) -> StateSnapshot {
    StateSnapshot {
        seq,
        state: format!("state {seq}").into_bytes(),
        members: members
            .iter()
            .map(|&number| (user(number), member_bytes(number, seq)))
            .collect(),
    }
}

/// The stored form of a member in [`snapshot`].
pub(super) fn member_bytes(number: u8, seq: Seq) -> Vec<u8> {
    format!("member {number} at {seq}").into_bytes()
}

/// A mark in lane 0 whose other values say its seq.
pub(super) fn mark(log: LogId, owner: [u8; 16], kind: MarkKind, seq: Seq) -> Mark {
    Mark {
        log,
        owner,
        kind,
        lane: 0,
        value: MarkValue {
            seq,
            ordinal: seq,
            own: seq / 2,
            at: at(seq),
        },
    }
}

/// Marks of one owner in one log, in the order of kind and lane.
pub(super) fn marks(store: &dyn Store, log: LogId, owner: [u8; 16]) -> Vec<Mark> {
    let mut marks = wait(store.marks(log, owner)).unwrap();
    sort_marks(&mut marks);
    marks
}

pub(super) fn sort_marks(marks: &mut [Mark]) {
    marks.sort_by_key(|mark| (mark.log, mark.owner, mark.kind, mark.lane));
}
