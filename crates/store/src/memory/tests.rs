//! What the store in memory has beyond other stores: crashes and failures on command.

use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Entry, Envelope, Kind};
use tidings_core::log::{Generation, LogPart};
use tidings_core::mark::{MarkKind, MarkValue};
use tidings_core::{ClientId, DeviceId};

use super::*;
use crate::conformance::wait;

const LOG: LogId = LogId {
    owner: [1; 16],
    part: LogPart::Conversation,
};

#[test]
fn a_crash_forgets_what_is_late() {
    let store = MemoryStore::new();
    wait(store.raise_marks(vec![read(1)], Durability::Now)).unwrap();
    wait(store.raise_marks(vec![read(2)], Durability::Late)).unwrap();
    wait(store.raise_marks(vec![read(3)], Durability::Late)).unwrap();
    wait(store.keep_steps(vec![step(2)])).unwrap();
    wait(store.raise_marks(vec![joined()], Durability::Late)).unwrap();
    store.clone().crash();
    assert_eq!(wait(store.marks(LOG, [1; 16])), Ok(vec![read(1)]));
    assert_eq!(
        wait(store.memberships(UserId([1; 16]), None, 10)),
        Ok(vec![])
    );
    assert_eq!(wait(store.steps_past(LOG, 1)), Ok(vec![]));
}

#[test]
fn what_becomes_durable_takes_the_late_with_it() {
    for how in 0..3 {
        let store = MemoryStore::new();
        wait(store.raise_marks(vec![read(2)], Durability::Late)).unwrap();
        wait(store.keep_steps(vec![step(2)])).unwrap();
        match how {
            0 => wait(store.flush()).unwrap(),
            1 => wait(store.append(append(1))).unwrap(),
            _ => wait(store.raise_marks(vec![], Durability::Now)).unwrap(),
        }
        store.crash();
        assert_eq!(wait(store.marks(LOG, [1; 16])), Ok(vec![read(2)]));
        assert_eq!(wait(store.steps_past(LOG, 1)), Ok(vec![step(2)]));
    }
}

#[test]
fn appends_fail_on_command_with_and_without_effect() {
    let store = MemoryStore::new();
    store.fail_next(AppendFailure::NotDone);
    store.fail_next(AppendFailure::AnswerLost);
    let failed = wait(store.append(append(1)));
    assert!(matches!(
        failed,
        Err(AppendError::Store(StoreError::Unavailable(_)))
    ));
    assert_eq!(wait(store.head(LOG)), Ok(None));
    let unknown = wait(store.append(append(1)));
    assert!(matches!(unknown, Err(AppendError::Unknown(_))));
    store.crash();
    assert_eq!(wait(store.head(LOG)).unwrap().unwrap().seq, 1);
    assert_eq!(
        wait(store.append(append(1))),
        Err(AppendError::Conflict { head: 1 })
    );
    assert_eq!(wait(store.append(append(2))), Ok(()));
}

#[test]
fn what_is_not_waited_for_does_not_happen() {
    let store = MemoryStore::new();
    drop(store.append(append(1)));
    assert_eq!(wait(store.head(LOG)), Ok(None));
}

fn append(seq: Seq) -> Append {
    let envelope = Envelope {
        seq,
        kind: Kind::Leave,
        rules: 1,
        author: UserId([1; 16]),
        device: DeviceId([1; 16]),
        at: Time(seq),
        client_id: ClientId([seq as u8; 16]),
        target: None,
        lane: 0,
        expires: None,
        epoch: 0,
        counts: false,
        ordinal: 0,
    };
    Append {
        log: LOG,
        expected_head: seq - 1,
        generation: Generation([1; 16]),
        entries: vec![Entry {
            envelope,
            body: Body::Leave,
        }],
        retention: Retention::Forever,
        erase: Vec::new(),
        marks: Vec::new(),
        state: None,
    }
}

fn read(seq: Seq) -> Mark {
    let value = MarkValue {
        seq,
        ..MarkValue::default()
    };
    Mark {
        log: LOG,
        owner: [1; 16],
        kind: MarkKind::Read,
        lane: 0,
        value,
    }
}

fn joined() -> Mark {
    Mark {
        kind: MarkKind::Joined,
        ..read(1)
    }
}

fn step(seq: Seq) -> Step {
    Step {
        log: LOG,
        owner: [1; 16],
        kind: MarkKind::Shown,
        seq,
        at: Time(seq),
    }
}
