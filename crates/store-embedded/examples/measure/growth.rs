//! What a message costs as the store grows, alone or while old messages are trimmed as quickly as new ones
//! come; and how long opening takes when the process was killed at that size.
//!
//! Each line of the table is a process of its own that is aborted at its end. Its directory is then opened
//! with nothing of it in the system's cache.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::Advice;
use tidings_core::Seq;
use tidings_core::conversation::Retention;
use tidings_store::conformance::wait;
use tidings_store::{Append, Durability, StateSnapshot, Store};
use tidings_store_embedded::{EmbeddedStore, Settings};

use super::{ROUND, append, cpu, log, read, size};

/// Characters of a message's text.
const TEXT: usize = 100;
/// Messages in a second, if the machine can.
const RATE: f64 = 40_000.0;
/// Of each conversation this many messages are kept, when they are trimmed, and they are trimmed so many at a time.
const KEPT: Seq = 32;
const TRIMMED: Seq = 8;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growing {
    /// Everything is kept.
    Kept,
    /// As many are trimmed as come; what is trimmed is erased within a minute, and forgotten after another.
    Trimmed,
}

impl Growing {
    pub(super) fn parse(argument: &str) -> Option<Growing> {
        match argument {
            "growth" => Some(Growing::Kept),
            "trimming" => Some(Growing::Trimmed),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Growing::Kept => "growth",
            Growing::Trimmed => "trimming",
        }
    }

    fn settings(self) -> Settings {
        match self {
            Growing::Kept => Settings::default(),
            Growing::Trimmed => Settings {
                erase_within: Duration::from_secs(60),
                keep_envelopes: Duration::from_secs(60),
                ..Settings::default()
            },
        }
    }
}

pub(super) fn run(growing: Growing, arguments: Vec<String>) {
    let folder = PathBuf::from(
        arguments
            .first()
            .map_or("target/measure-store", String::as_str),
    );
    let numbers: Vec<u64> = arguments
        .iter()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    if arguments.last().is_some_and(|last| last == "child") {
        grow(growing, &folder, numbers[1] as u32, numbers[2]..numbers[0]);
        std::process::abort();
    }
    let messages = numbers.first().copied().unwrap_or(1_000_000);
    let conversations = match numbers.get(1..) {
        Some(given) if !given.is_empty() => given.to_vec(),
        _ => vec![100, 10_000, 100_000],
    };
    println!(
        "| conversations | messages | CPU of one | written for one | on disk for one | messages/s | commits: half | 99 % | longest | memory | opened after a kill in |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    for conversations in conversations {
        let _ = std::fs::remove_dir_all(&folder);
        let mut before = 0;
        let steps = [10_000, 100_000, 1_000_000, 10_000_000];
        for to in steps.into_iter().filter(|step| *step <= messages) {
            let status = Command::new(std::env::current_exe().unwrap())
                .arg(growing.name())
                .arg(&folder)
                .args([to, conversations, before].map(|number| number.to_string()))
                .arg("child")
                .status()
                .unwrap();
            assert!(!status.success(), "the child was to abort");
            forget(&folder);
            let started = Instant::now();
            let store = EmbeddedStore::open(&folder, growing.settings()).unwrap();
            println!(" {:.2?} |", started.elapsed());
            drop(store);
            before = to;
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// Messages in turn to all conversations, in rounds, each with the marks of who receives and reads it.
fn grow(growing: Growing, folder: &Path, conversations: u32, messages: std::ops::Range<u64>) {
    let store = EmbeddedStore::open(folder, growing.settings()).unwrap();
    let mut commits = Vec::new();
    let (started, cpu, written) = (Instant::now(), cpu(), written());
    let mut done = messages.start;
    while done < messages.end {
        let round: Vec<(u32, Seq)> = (done..(done + ROUND).min(messages.end))
            .map(|message| {
                let (seq, number) = (
                    message / u64::from(conversations),
                    message % u64::from(conversations),
                );
                (number as u32, seq + 1)
            })
            .collect();
        let appends = round
            .iter()
            .map(|(number, seq)| of_round(growing, *number, *seq));
        let appends = appends.collect();
        let began = Instant::now();
        for result in wait(store.append_all(appends)) {
            result.unwrap();
        }
        commits.push(began.elapsed());
        for (number, seq) in &round {
            wait(store.raise_marks(read(log(*number), *seq), Durability::Late)).unwrap();
            if growing == Growing::Trimmed && seq.is_multiple_of(TRIMMED) {
                let trim = store.trim(log(*number), seq.saturating_sub(KEPT));
                wait(trim).unwrap();
            }
        }
        done += round.len() as u64;
        // As many as arrive in a second, so that what waits for a moment does.
        let due = started + Duration::from_secs(1).mul_f64((done - messages.start) as f64 / RATE);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let (took, spent) = (started.elapsed(), self::cpu() - cpu);
    let count = messages.end - messages.start;
    commits.sort_unstable();
    print!(
        "| {conversations} | {} | {:.1?} | {} B | {} B | {:.0} | {:.2?} | {:.2?} | {:.1?} | {} MB |",
        messages.end,
        spent / count as u32,
        (self::written() - written) / count,
        size(folder) / messages.end,
        count as f64 / took.as_secs_f64(),
        commits[commits.len() / 2],
        commits[commits.len() * 99 / 100],
        commits[commits.len() - 1],
        memory() / 1_000_000,
    );
    std::io::stdout().flush().unwrap();
}

fn of_round(growing: Growing, number: u32, seq: Seq) -> Append {
    let plain = append(log(number), seq, 1, TEXT);
    match growing {
        Growing::Kept => plain,
        Growing::Trimmed => Append {
            retention: Retention::UntilDelivered,
            state: seq.is_multiple_of(TRIMMED).then(|| StateSnapshot {
                seq,
                state: vec![7; 200],
                members: Vec::new(),
            }),
            ..plain
        },
    }
}

/// Bytes that this process has had written to the disk (proc(5): `write_bytes` of `io`).
fn written() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Resident memory.
fn memory() -> u64 {
    field("/proc/self/status", "VmRSS:") * 1024
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// Has the system forget what it has read of the files in a folder.
fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            forget(&entry.path());
        } else {
            let file = File::open(entry.path()).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}
