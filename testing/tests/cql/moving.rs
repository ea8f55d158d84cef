//! What moving a deployment asks of the store: logs that go on behind what is forgotten, entries without bodies.

use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Content, Entry, Envelope, Kind, TextContent};
use tidings_core::log::{Generation, LogId, LogPart, Seq};
use tidings_core::{ClientId, DeviceId, Time, UserId};
use tidings_store::conformance::wait;
use tidings_store::{
    Append, Beginning, ClientIdSearch, Direction, Movable, ReadLog, StateSnapshot, Store, Want,
};
use tidings_store_cql::CqlStore;

use crate::support::Keyspace;

const GENERATION: Generation = Generation([7; 16]);
const LOG: LogId = LogId {
    owner: [1; 16],
    part: LogPart::Conversation,
};

fn entry(seq: Seq) -> Entry {
    let text = TextContent {
        text: format!("said {seq}"),
        ..TextContent::default()
    };
    Entry {
        envelope: Envelope {
            seq,
            kind: Kind::Message,
            rules: 1,
            author: UserId([1; 16]),
            device: DeviceId([9; 16]),
            at: Time(1_700_000_000_000 + seq),
            client_id: ClientId(u128::from(seq).to_be_bytes()),
            target: None,
            lane: 0,
            expires: Some(Time(1_800_000_000_000)),
            epoch: 0,
            counts: true,
            ordinal: seq,
        },
        body: Body::Message(Content::Text(text)),
    }
}

fn append(store: &CqlStore, entries: Vec<Entry>) {
    let append = Append {
        log: LOG,
        expected_head: entries[0].seq() - 1,
        generation: GENERATION,
        entries,
        retention: Retention::Forever,
        erase: Vec::new(),
        marks: Vec::new(),
        state: None,
    };
    wait(store.append(append)).unwrap();
}

fn begin_at(store: &CqlStore, seq: Seq) {
    let state = StateSnapshot {
        seq,
        state: vec![1],
        members: Vec::new(),
    };
    wait(store.write_state(LOG, state)).unwrap();
    let beginning = Beginning {
        generation: GENERATION,
        seq,
        ordinal: seq,
        at: Time(1_700_000_000_000 + seq),
        retention: Retention::Forever,
    };
    wait(store.begin_at(LOG, beginning)).unwrap();
}

fn read(store: &CqlStore, from: Seq, direction: Direction, want: Want) -> Vec<Entry> {
    let read = ReadLog {
        from,
        direction,
        limit: 10_000,
        bytes_max: usize::MAX,
        want,
    };
    wait(store.read(LOG, read)).unwrap().entries
}

fn head(store: &CqlStore) -> (Seq, Seq) {
    let head = wait(store.head(LOG)).unwrap().unwrap();
    (head.seq, head.trimmed)
}

#[test]
fn a_log_goes_on_behind_what_is_forgotten() {
    // In the middle of a bucket, at the end of one, at the beginning of the next; then a jump within a bucket and one
    // beyond.
    for (begins, jumps) in [(2_500, 2_700), (2_048, 2_090), (2_049, 9_000)] {
        let keyspace = Keyspace::take();
        let store = keyspace.open();
        begin_at(&store, begins);
        begin_at(&store, begins);
        assert_eq!(head(&store), (begins, begins));
        assert_eq!(wait(store.all_logs()), Ok(vec![LOG]));
        assert_eq!(read(&store, 1, Direction::Forwards, Want::Envelopes), []);
        let first: Vec<Entry> = (begins + 1..=begins + 20).map(entry).collect();
        append(&store, first.clone());
        let other = keyspace.open();
        assert_eq!(head(&other), (begins + 20, begins));
        assert_eq!(read(&other, 1, Direction::Forwards, Want::Entries), first);
        let backwards = read(&other, Seq::MAX, Direction::Backwards, Want::Entries);
        assert!(backwards.iter().rev().eq(&first));
        let search = |client_id: u64, above| {
            let client_id = ClientId(u128::from(client_id).to_be_bytes());
            wait(other.find_client_id(LOG, UserId([1; 16]), client_id, above)).unwrap()
        };
        assert!(matches!(
            search(begins + 3, 0),
            ClientIdSearch::Found { .. }
        ));
        assert_eq!(search(5, 0), ClientIdSearch::Incomplete);
        assert_eq!(search(5, begins), ClientIdSearch::Absent);

        begin_at(&other, jumps);
        begin_at(&store, jumps);
        assert_eq!(head(&keyspace.open()), (jumps, jumps));
        assert_eq!(read(&other, 1, Direction::Forwards, Want::Envelopes), []);
        assert_eq!(search(begins + 3, 0), ClientIdSearch::Incomplete);
        // Over the end of a bucket.
        let more: Vec<Entry> = (jumps + 1..=jumps + 1_500).map(entry).collect();
        for some in more.chunks(100) {
            append(&other, some.to_vec());
        }
        let again = keyspace.open();
        assert_eq!(head(&again), (jumps + 1_500, jumps));
        assert_eq!(read(&again, 1, Direction::Forwards, Want::Entries), more);
    }
}

#[test]
fn what_is_appended_without_a_body_stays_so_and_never_expires() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let kinds = [Kind::Message, Kind::Delete, Kind::Leave];
    let entries: Vec<Entry> = (1..)
        .zip(kinds)
        .map(|(seq, kind)| {
            let mut entry = entry(seq).erased();
            entry.envelope.kind = kind;
            entry
        })
        .collect();
    append(&store, entries.clone());
    assert_eq!(read(&store, 1, Direction::Forwards, Want::Entries), entries);
    assert_eq!(wait(store.expired(Time(1_900_000_000_000), 10)), Ok(vec![]));
}
