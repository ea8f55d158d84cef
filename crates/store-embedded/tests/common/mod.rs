//! What the tests are written with.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Content, Entry, Envelope, Kind, TextContent};
use tidings_core::log::{Generation, LogId, LogPart, Seq};
use tidings_core::{ClientId, DeviceId, Time, UserId};
pub(crate) use tidings_store::conformance::wait;
use tidings_store::{Append, Direction, ReadLog, StateSnapshot, Store, Want};
use tidings_store_embedded::{EmbeddedStore, Settings};

pub(crate) const GENERATION: Generation = Generation([7; 16]);

pub(crate) fn log(number: u32) -> LogId {
    let mut owner = [1; 16];
    owner[..4].copy_from_slice(&number.to_be_bytes());
    LogId {
        owner,
        part: LogPart::Conversation,
    }
}

/// Settings with which nothing happens in the background but what is asked for.
pub(crate) fn quiet() -> Settings {
    Settings {
        erase_within: Duration::from_secs(1_000_000),
        ..Settings::default()
    }
}

pub(crate) fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, quiet()).unwrap()
}

pub(crate) fn message(seq: Seq, text: &str) -> Entry {
    let content = TextContent {
        text: text.to_owned(),
        ..TextContent::default()
    };
    Entry {
        envelope: Envelope {
            seq,
            kind: Kind::Message,
            rules: 1,
            author: UserId([2; 16]),
            device: DeviceId([3; 16]),
            at: Time(1_700_000_000_000 + seq),
            client_id: ClientId((0x7000 + u128::from(seq)).to_be_bytes()),
            target: None,
            lane: 0,
            expires: None,
            epoch: 0,
            counts: true,
            ordinal: seq,
        },
        body: Body::Message(Content::Text(content)),
    }
}

pub(crate) fn append(log: LogId, retention: Retention, entries: Vec<Entry>) -> Append {
    Append {
        log,
        expected_head: entries.first().map_or(0, |first| first.seq() - 1),
        generation: GENERATION,
        entries,
        retention,
        erase: Vec::new(),
        marks: Vec::new(),
        state: None,
    }
}

/// Puts messages into a log, which may be trimmed up to the last of them.
pub(crate) fn put(
    store: &EmbeddedStore,
    log: LogId,
    retention: Retention,
    first: Seq,
    texts: &[String],
) {
    let entries: Vec<Entry> = texts
        .iter()
        .zip(first..)
        .map(|(text, seq)| message(seq, text))
        .collect();
    let state = StateSnapshot {
        seq: first + texts.len() as u64 - 1,
        ..StateSnapshot::default()
    };
    wait(store.append(Append {
        state: Some(state),
        ..append(log, retention, entries)
    }))
    .unwrap();
}

pub(crate) fn read_all(store: &EmbeddedStore, log: LogId) -> Vec<Entry> {
    let read = ReadLog {
        from: 1,
        direction: Direction::Forwards,
        limit: usize::MAX,
        bytes_max: usize::MAX,
        want: Want::Entries,
    };
    wait(store.read(log, read)).unwrap().entries
}

pub(crate) fn text_of(entry: &Entry) -> &str {
    match &entry.body {
        Body::Message(Content::Text(content)) => &content.text,
        other => panic!("not a text: {other:?}"),
    }
}

/// The files below a folder in which these bytes occur.
pub(crate) fn grep(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(grep(&path, needle));
        } else if std::fs::read(&path)
            .unwrap()
            .windows(needle.len())
            .any(|bytes| bytes == needle.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The directory as a crash at this moment leaves it: no thread of the store runs again, only its locks are
/// let go. The first keeps it there.
pub(crate) fn crashed(from: &Path) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    let copied = std::process::Command::new("cp")
        .args(["-r", "--sparse=always"])
        .arg(from)
        .arg(&to)
        .status()
        .unwrap();
    assert!(copied.success());
    (folder, to)
}
