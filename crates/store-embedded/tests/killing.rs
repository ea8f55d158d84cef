//! What is acknowledged survives `kill -9` at any moment, and nothing else is half there.
//!
//! The test starts its own program again as a child that writes as fast as it can and says each
//! acknowledgement on its standard output; kills it; opens the directory and compares.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use common::{append, log, message, open, read_all, text_of, wait};
use tidings_core::conversation::Retention;
use tidings_core::entry::Body;
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Seq, Time};
use tidings_store::{Append, Durability, StateSnapshot, Store};
use tidings_store_embedded::{EmbeddedStore, Settings, verify};

const FOLDER: &str = "TIDINGS_KILLED_CHILD_FOLDER";
const WRITERS: u32 = 8;

/// Not a test by itself: what the child runs.
#[test]
#[ignore = "run by the other test as a child"]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    // Journals and files that are soon full, so that being killed while they change is tried too; and rows on both
    // ways into the tables.
    let settings = Settings {
        erase_within: Duration::from_millis(200),
        direct_bytes_min: 20_000,
        journal_rows_max: 3_000,
        body_file_bytes_max: 100_000,
        ..Settings::default()
    };
    let store = EmbeddedStore::open(Path::new(&folder), settings).unwrap();
    let output = Mutex::new(std::io::stdout());
    let say = |line: String| {
        let mut output = output.lock().unwrap();
        writeln!(output, "{line}").unwrap();
        output.flush().unwrap();
    };
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let (store, say) = (&store, &say);
            scope.spawn(move || write_for_ever(store, number, say));
        }
    });
}

fn retention_of(number: u32) -> Retention {
    [
        Retention::Forever,
        Retention::Days(7),
        Retention::UntilDelivered,
    ][number as usize % 3]
}

fn write_for_ever(store: &EmbeddedStore, number: u32, say: &(impl Fn(String) + Sync)) {
    let id = log(number);
    let mut head = wait(store.head(id)).unwrap().map_or(0, |head| head.seq);
    loop {
        let count = 1 + head % 3;
        let entries: Vec<_> = (1..=count)
            .map(|next| message(head + next, &format!("log {number} says {}", head + next)))
            .collect();
        let last = head + count;
        let value = MarkValue {
            seq: last,
            ordinal: last,
            own: 0,
            at: Time(1),
        };
        let joined = Mark {
            log: id,
            owner: [4; 16],
            kind: MarkKind::Joined,
            lane: 0,
            value,
        };
        let state = head.is_multiple_of(7).then(|| StateSnapshot {
            seq: last,
            ..StateSnapshot::default()
        });
        wait(store.append(Append {
            marks: vec![joined],
            state,
            ..append(id, retention_of(number), entries)
        }))
        .unwrap();
        say(format!("appended {number} {last}"));
        let read = Mark {
            kind: MarkKind::Read,
            ..joined
        };
        wait(store.raise_marks(vec![read], Durability::Late)).unwrap();
        if last.is_multiple_of(5) {
            wait(store.erase(id, vec![last - 1])).unwrap();
            say(format!("erased {number} {}", last - 1));
        }
        if last.is_multiple_of(11) {
            let trimmed = wait(store.trim(id, last.saturating_sub(100))).unwrap();
            say(format!("trimmed {number} {trimmed}"));
        }
        head = last;
    }
}

#[derive(Default)]
struct Said {
    head: Seq,
    trimmed: Seq,
    erased: Vec<Seq>,
}

#[test]
fn what_is_acknowledged_survives_being_killed() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = std::env::var("TIDINGS_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(4);
    let mut said: HashMap<u32, Said> = HashMap::new();
    for round in 0..rounds {
        run_and_kill(
            folder.path(),
            Duration::from_millis(300 + 170 * (round % 7)),
            &mut said,
        );
        assert_eq!(
            verify(folder.path()).unwrap(),
            Vec::<String>::new(),
            "after round {round}"
        );
        let started = Instant::now();
        let store = open(folder.path());
        println!("round {round}: opened in {:?}", started.elapsed());
        for (&number, said) in &said {
            compare(&store, number, said);
        }
    }
    let entries: Seq = said.values().map(|said| said.head).sum();
    println!("{entries} acknowledged entries in {rounds} rounds");
    assert!(entries > 0, "the child wrote nothing");
}

fn run_and_kill(folder: &Path, after: Duration, said: &mut HashMap<u32, Said>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (begun, begins) = sync_channel(1);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        while !text.contains("appended") && output.read_line(&mut text)? > 0 {}
        // Nobody waits for it but in the first round.
        let _ = begun.send(());
        output.read_to_string(&mut text).map(|_| text)
    });
    if said.is_empty() {
        // Before it has begun there is no store that could be looked at.
        begins.recv().unwrap();
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let text = reading.join().unwrap().unwrap();
    // The last line may have been cut off.
    for line in text
        .rsplit_once('\n')
        .map_or("", |(whole, _)| whole)
        .lines()
    {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, number, seq] = words.as_slice() else {
            continue;
        };
        let (Ok(number), Ok(seq)) = (number.parse::<u32>(), seq.parse::<Seq>()) else {
            continue;
        };
        let said = said.entry(number).or_default();
        match *what {
            "appended" => said.head = said.head.max(seq),
            "trimmed" => said.trimmed = said.trimmed.max(seq),
            "erased" => said.erased.push(seq),
            _ => {}
        }
    }
}

fn compare(store: &EmbeddedStore, number: u32, said: &Said) {
    let id = log(number);
    let head = wait(store.head(id)).unwrap().unwrap();
    assert!(
        head.seq >= said.head,
        "log {number} lost entries: {} of {}",
        head.seq,
        said.head
    );
    assert!(head.trimmed >= said.trimmed, "log {number} lost a trim");
    let entries = read_all(store, id);
    assert_eq!(entries.len() as Seq, head.seq - head.trimmed);
    for entry in &entries {
        if said.erased.contains(&entry.seq()) {
            assert_eq!(entry.body, Body::Erased);
        } else if entry.body != Body::Erased {
            assert_eq!(text_of(entry), format!("log {number} says {}", entry.seq()));
        }
    }
    let marks = wait(store.marks(id, [4; 16])).unwrap();
    let joined = marks
        .iter()
        .find(|mark| mark.kind == MarkKind::Joined)
        .unwrap();
    assert_eq!(
        joined.value.seq, head.seq,
        "a mark of an append is as durable as the append"
    );
}
