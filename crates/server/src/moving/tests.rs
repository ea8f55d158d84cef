//! Whatever a store holds, after the last round of a move the other holds it too.

use std::path::Path;

use proptest::prelude::*;
use tidings_core::codec::encode_state;
use tidings_core::conversation::{Retention, Settings, SettingsChange, State};
use tidings_core::entry::{Body, Content, Entry, Envelope, Kind, TextContent};
use tidings_core::log::{Generation, LogPart};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ClientId, DeviceId, Time, UserId};
use tidings_store::conformance::wait;
use tidings_store::memory::MemoryStore;
use tidings_store::{
    Append, ClientIdSearch, Document, DocumentKind, Durability, PutDocument, StateSnapshot, Step,
};
use tidings_store_embedded::EmbeddedStore;

use super::*;

const GENERATION: Generation = Generation([7; 16]);
const LOGS: u8 = 3;

#[derive(Clone, Debug)]
enum Op {
    Append {
        log: u8,
        kinds: Vec<(u8, u8)>,
    },
    Erase {
        log: u8,
        back: u8,
    },
    Trim {
        log: u8,
        back: u8,
    },
    Forget {
        log: u8,
        back: u8,
    },
    Mark {
        log: u8,
        owner: u8,
        back: u8,
    },
    Step {
        log: u8,
        owner: u8,
        back: u8,
    },
    Document {
        kind: u8,
        key: u8,
        value: Option<u8>,
    },
    Round,
}

fn op() -> impl Strategy<Value = Op> {
    let (log, back) = (0..LOGS, 0..12_u8);
    let kinds = proptest::collection::vec((0..10_u8, 0..12_u8), 1..6);
    prop_oneof![
        6 => (log.clone(), kinds).prop_map(|(log, kinds)| Op::Append { log, kinds }),
        3 => (log.clone(), back.clone()).prop_map(|(log, back)| Op::Erase { log, back }),
        1 => (log.clone(), back.clone()).prop_map(|(log, back)| Op::Trim { log, back }),
        1 => (log.clone(), back.clone()).prop_map(|(log, back)| Op::Forget { log, back }),
        2 => (log.clone(), 0..4_u8, back.clone())
            .prop_map(|(log, owner, back)| Op::Mark { log, owner, back }),
        2 => (log, 0..4_u8, back).prop_map(|(log, owner, back)| Op::Step { log, owner, back }),
        2 => (0..10_u8, 0..4_u8, proptest::option::of(any::<u8>()))
            .prop_map(|(kind, key, value)| Op::Document { kind, key, value }),
        1 => Just(Op::Round),
    ]
}

/// One side of a move.
#[derive(Clone)]
enum Side {
    Memory(MemoryStore),
    Embedded(Arc<EmbeddedStore>),
}

impl Side {
    fn embedded(path: &Path) -> Side {
        let store = EmbeddedStore::open(path, tidings_store_embedded::Settings::default());
        Side::Embedded(Arc::new(store.unwrap()))
    }

    fn movable(&self) -> Arc<dyn Movable> {
        match self {
            Side::Memory(store) => Arc::new(store.clone()),
            Side::Embedded(store) => store.clone(),
        }
    }

    fn forget(&self, log: LogId, up_to: Seq) {
        match self {
            Side::Memory(store) => store.forget_envelopes(log, up_to),
            Side::Embedded(store) => store.forget_envelopes(log, up_to).unwrap(),
        }
    }
}

fn log_id(number: u8) -> LogId {
    LogId {
        owner: [number + 1; 16],
        part: LogPart::Conversation,
    }
}

fn head(store: &dyn Movable, log: LogId) -> Seq {
    wait(store.head(log)).unwrap().map_or(0, |head| head.seq)
}

fn entry(seq: Seq, kind: u8, back: u8) -> Entry {
    let target = seq.saturating_sub(u64::from(back) + 1).max(1);
    let text = |what: &str| {
        Content::Text(TextContent {
            text: format!("{what} {seq}"),
            ..TextContent::default()
        })
    };
    let emoji = |number: u8| ["+1", "heart"][usize::from(number % 2)].to_owned();
    let reaction = |on| Body::Reaction {
        emoji: emoji(back),
        on,
    };
    let retention = [
        Retention::Forever,
        Retention::UntilDelivered,
        Retention::Days(3),
    ];
    let change = SettingsChange {
        retention: Some(retention[usize::from(back % 3)]),
        ..SettingsChange::default()
    };
    let (kind, body) = match (seq, kind) {
        (1, _) | (_, 0..=3) => (Kind::Message, Body::Message(text("said"))),
        (_, 4) => (Kind::Edit, Body::Edit(text("rather"))),
        (_, 5) => (Kind::Delete, Body::Delete),
        (_, 6 | 7) => (Kind::Reaction, reaction(true)),
        (_, 8) => (Kind::Reaction, reaction(false)),
        _ => (Kind::Settings, Body::Settings(change)),
    };
    let envelope = Envelope {
        seq,
        kind,
        rules: 1,
        author: UserId([seq as u8 % 2; 16]),
        device: DeviceId([9; 16]),
        at: Time(1_700_000_000_000 + seq),
        client_id: ClientId(u128::from(seq).to_be_bytes()),
        target: None,
        lane: 0,
        expires: (back == 3).then_some(Time(1_800_000_000_000)),
        epoch: 0,
        counts: kind == Kind::Message,
        ordinal: seq,
    };
    let target = (envelope.alters_target()).then_some(target);
    Entry {
        envelope: Envelope { target, ..envelope },
        body,
    }
}

fn append(store: &dyn Movable, log: LogId, kinds: &[(u8, u8)]) {
    let head = head(store, log);
    let entries: Vec<Entry> = (head + 1..)
        .zip(kinds)
        .map(|(seq, (kind, back))| entry(seq, *kind, *back))
        .collect();
    let append = Append {
        log,
        expected_head: head,
        generation: GENERATION,
        entries,
        retention: Retention::Forever,
        erase: Vec::new(),
        marks: Vec::new(),
        state: None,
    };
    wait(store.append(append)).unwrap();
}

/// As the server does, a state before trimming. What it says of retention is what the entries said last.
fn write_state(store: &dyn Movable, log: LogId) {
    let seq = head(store, log);
    let mut retention = Retention::Forever;
    let before = wait(store.read_state(log)).unwrap();
    let since = before.map_or(0, |state| {
        let known = tidings_core::codec::decode_state(&state.state).unwrap();
        retention = known.settings.retention;
        state.seq
    });
    for seq in since + 1..=seq {
        let read = tidings_store::ReadLog {
            from: seq,
            direction: tidings_store::Direction::Forwards,
            limit: 1,
            bytes_max: 1,
            want: tidings_store::Want::Entries,
        };
        let page = wait(store.read(log, read)).unwrap();
        if let Some(Body::Settings(change)) = page.entries.first().map(|entry| &entry.body) {
            retention = change.retention.unwrap_or(retention);
        }
    }
    let state = State {
        seq,
        settings: Settings {
            retention,
            ..Settings::default()
        },
        ..State::empty(GENERATION)
    };
    let snapshot = StateSnapshot {
        seq,
        state: encode_state(&state),
        members: Vec::new(),
    };
    wait(store.write_state(log, snapshot)).unwrap();
}

fn perform(side: &Side, op: &Op) {
    let store = &*side.movable();
    let at = |log: u8, back: u8| head(store, log_id(log)).saturating_sub(u64::from(back));
    match op {
        Op::Append { log, kinds } => append(store, log_id(*log), kinds),
        Op::Erase { log, back } => wait(store.erase(log_id(*log), vec![at(*log, *back)])).unwrap(),
        Op::Trim { log, back } | Op::Forget { log, back } if at(*log, *back) > 0 => {
            write_state(store, log_id(*log));
            wait(store.trim(log_id(*log), at(*log, *back))).unwrap();
            if matches!(op, Op::Forget { .. }) {
                side.forget(log_id(*log), at(*log, *back));
            }
        }
        // None of a log that is not there, as the servers have it.
        Op::Mark { log, owner, back } if head(store, log_id(*log)) > 0 => {
            let kinds = [MarkKind::Delivered, MarkKind::Joined, MarkKind::Read];
            let mark = Mark {
                log: log_id(*log),
                owner: [*owner; 16],
                kind: kinds[usize::from(*back % 3)],
                lane: 0,
                value: MarkValue {
                    seq: at(*log, *back),
                    at: Time(u64::from(*back)),
                    ..MarkValue::default()
                },
            };
            wait(store.raise_marks(vec![mark], Durability::Late)).unwrap();
        }
        Op::Step { log, owner, back } => {
            let step = Step {
                log: log_id(*log),
                owner: [*owner; 16],
                kind: MarkKind::Delivered,
                seq: at(*log, *back),
                at: Time(u64::from(*back)),
            };
            if step.seq > 0 {
                wait(store.keep_steps(vec![step])).unwrap();
            }
        }
        Op::Document { kind, key, value } => {
            let put = PutDocument {
                kind: DocumentKind::ALL[usize::from(*kind)],
                key: vec![*key; usize::from(*key) * 10],
                expected: None,
                value: value.map(|value| vec![value]),
            };
            wait(store.put_document(put)).unwrap();
        }
        _ => {}
    }
}

fn round(from: &Side, to: &Side, is_last: bool) -> Result<Round, MoveError> {
    let moving = Move {
        source: from.movable(),
        target: to.movable(),
        is_last,
        logs_at_once: 2,
        say: Arc::new(|_| true),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(moving.round())
}

/// The first entry of a log whose envelope is kept.
fn first_kept(store: &dyn Movable, log: LogId) -> Seq {
    let read = tidings_store::ReadLog {
        from: 1,
        direction: tidings_store::Direction::Forwards,
        limit: 1,
        bytes_max: 1,
        want: tidings_store::Want::Envelopes,
    };
    let page = wait(store.read(log, read)).unwrap();
    page.entries.first().map_or(Seq::MAX, Entry::seq)
}

/// Everything that servers ask of a store, as far as the source still has it.
fn all(store: &dyn Movable, source: &dyn Movable) -> Vec<String> {
    let mut all = Vec::new();
    for log in (0..LOGS).map(log_id) {
        let kept = first_kept(source, log);
        let head = wait(store.head(log)).unwrap();
        all.push(format!("{head:?}"));
        for want in [tidings_store::Want::Entries, tidings_store::Want::Envelopes] {
            let read = tidings_store::ReadLog {
                from: 1,
                direction: tidings_store::Direction::Forwards,
                limit: 10_000,
                bytes_max: usize::MAX,
                want,
            };
            let mut page = wait(store.read(log, read)).unwrap();
            page.entries.retain(|entry| entry.seq() >= kept);
            all.push(format!("{page:?}"));
        }
        let head = head.map_or(0, |head| head.seq);
        let targets: Vec<Seq> = (1..=head).collect();
        let trimmed = wait(store.head(log))
            .unwrap()
            .map_or(0, |head| head.trimmed);
        let mut altered = wait(store.alterations(log, targets.clone())).unwrap();
        altered.retain(|altered| altered.target > trimmed);
        all.push(format!("{altered:?}"));
        for seq in targets.into_iter().filter(|seq| *seq >= kept) {
            let author = UserId([seq as u8 % 2; 16]);
            let client_id = ClientId(u128::from(seq).to_be_bytes());
            let found = wait(store.find_client_id(log, author, client_id, 0)).unwrap();
            if let ClientIdSearch::Found { .. } = found {
                all.push(format!("{found:?}"));
            }
        }
        all.push(format!("{:?}", wait(store.marks_of_log(log, None, 1_000))));
        let mut steps = wait(store.all_steps(log)).unwrap();
        steps.retain(|step| step.seq > trimmed);
        all.push(format!("{steps:?}"));
        all.push(format!("{:?}", wait(store.read_state(log))));
    }
    for owner in 0..4 {
        let user = UserId([owner; 16]);
        all.push(format!("{:?}", wait(store.memberships(user, None, 1_000))));
    }
    let mut expired = wait(store.expired(Time(2_000_000_000_000), 10_000)).unwrap();
    expired.sort_unstable();
    all.push(format!("{expired:?}"));
    let kinds = DocumentKind::ALL.into_iter();
    for kind in kinds.filter(|kind| *kind != DocumentKind::Notice) {
        let documents = wait(store.scan_documents(kind, Vec::new(), None, 1_000)).unwrap();
        let values = documents
            .into_iter()
            .filter(|document: &Document| document.key != note::MOVING)
            .map(|document| (document.key, document.value));
        all.push(format!("{kind:?} {:?}", values.collect::<Vec<_>>()));
    }
    all
}

fn moves(from: &Side, to: &Side, ops: &[Op]) {
    for op in ops {
        match op {
            Op::Round => {
                let round = round(from, to, false).unwrap();
                assert_eq!(round.differences, Vec::<String>::new());
                assert!(matches!(
                    wait(may_serve(&*to.movable())),
                    Err(NotServed::Unfinished)
                ));
            }
            op => perform(from, op),
        }
    }
    for again in [false, true] {
        let round = round(from, to, true).unwrap();
        assert_eq!(round.differences, Vec::<String>::new());
        assert_eq!((round.left, round.hashes[0]), (0, round.hashes[1]));
        assert!(!again || round.copied + round.erased + round.documents_changed == 0);
    }
    let (source, target) = (from.movable(), to.movable());
    let (ours, theirs) = (all(&*source, &*source), all(&*target, &*source));
    let differing = ours.iter().zip(&theirs).find(|(one, other)| one != other);
    assert_eq!(differing, None);
    assert_eq!(ours.len(), theirs.len());
    wait(may_serve(&*to.movable())).unwrap();
    let refused = round(from, to, true).unwrap_err();
    assert!(matches!(refused, MoveError::Occupied(_)), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_moved_into_memory(ops in proptest::collection::vec(op(), 1..60)) {
        moves(&Side::Memory(MemoryStore::new()), &Side::Memory(MemoryStore::new()), &ops);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_moved_out_of_a_data_directory_and_back(
        ops in proptest::collection::vec(op(), 1..60)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let between = Side::Memory(MemoryStore::new());
        moves(&Side::embedded(&one), &between, &ops);
        moves(&between, &Side::embedded(&other), &[]);
        // The marks are made up and fit no members.
        let findings = tidings_store_embedded::verify(&other).unwrap();
        prop_assert!(findings.is_empty(), "{findings:?}");
    }
}
