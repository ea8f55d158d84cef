//! The first step of each owner and kind past a seq, whether it is on disk or still in the cache.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::collections::BTreeMap;

use common::{log, open, put, wait};
use tidings_core::conversation::Retention;
use tidings_core::mark::MarkKind;
use tidings_core::{Seq, Time};
use tidings_store::{Step, Store};

const HEAD: Seq = 60;

fn step(number: u32, owner: u8, kind: MarkKind, seq: Seq, at: u64) -> Step {
    Step {
        log: log(number),
        owner: [owner; 16],
        kind,
        seq,
        at: Time(at),
    }
}

/// What is asked for, from all steps that there are. The first time of a step is its time.
fn expected(steps: &[Step], seq: Seq) -> Vec<Step> {
    let mut past: BTreeMap<_, Step> = BTreeMap::new();
    for step in steps.iter().filter(|step| step.seq >= seq) {
        let first = past.entry((step.owner, step.kind)).or_insert(*step);
        if step.seq < first.seq {
            *first = *step;
        }
    }
    past.into_values().collect()
}

#[test]
fn the_first_step_of_each_past_any_seq() {
    let folder = tempfile::tempdir().unwrap();
    let texts = vec!["text".to_owned(); HEAD as usize];
    let kinds = [MarkKind::Delivered, MarkKind::Shown];
    let mut steps = Vec::new();
    // Owners at both ends of what an owner can be; some with many steps, one with one, one with none shown.
    for (owner, every) in [(0, 7), (1, 1), (9, HEAD), (10, 13), (0xff, 5)] {
        for kind in kinds {
            let seqs = (1..=HEAD).filter(|seq| seq % every == 0);
            let seqs = seqs.filter(|_| owner != 10 || kind == MarkKind::Delivered);
            steps.extend(seqs.map(|seq| step(2, owner, kind, seq, 1_000 + seq)));
        }
    }
    let (stored, late): (Vec<_>, Vec<_>) = steps.iter().partition(|step| step.seq % 3 != 0);
    // The neighbours of the log are none of its business.
    let others = [1, 3].map(|number| step(number, 5, MarkKind::Shown, HEAD, 1));
    let store = open(folder.path());
    for number in 1..=3 {
        put(&store, log(number), Retention::Forever, 1, &texts);
    }
    wait(store.keep_steps(stored.clone())).unwrap();
    wait(store.keep_steps(others.to_vec())).unwrap();
    drop(store);
    let store = open(folder.path());
    wait(store.keep_steps(late)).unwrap();
    // Again, and later: the first time stays.
    let again = stored.iter().map(|step| Step {
        at: Time(9_000),
        ..*step
    });
    wait(store.keep_steps(again.collect())).unwrap();
    let compare = |store: &tidings_store_embedded::EmbeddedStore, from: Seq| {
        for seq in 0..=HEAD + 1 {
            let found = wait(store.steps_past(log(2), seq)).unwrap();
            assert_eq!(found, expected(&steps, seq.max(from)), "past {seq}");
        }
    };
    compare(&store, 0);
    wait(store.trim(log(2), 20)).unwrap();
    compare(&store, 21);
    drop(store);
    let store = open(folder.path());
    compare(&store, 21);
    assert_eq!(wait(store.steps_past(log(4), 1)).unwrap(), []);
}
