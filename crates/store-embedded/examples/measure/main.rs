//! Measures the embedded store on this machine and prints tables: appends per second and their
//! latency by how many wait at once, then how long opening takes after the process was killed; or what a message
//! costs as the store grows.
//!
//! `cargo run --release -p tidings-store-embedded --example measure [folder] [entries to fill with]`
//! `cargo run --release -p tidings-store-embedded --example measure growth [folder] [messages] [conversations…]`
//! `cargo run --release -p tidings-store-embedded --example measure trimming [folder] [messages] [conversations…]`

#![allow(
    clippy::unwrap_used,
    reason = "a measuring program may stop at any failure"
)]

mod growth;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Content, Entry, Envelope, Kind, TextContent};
use tidings_core::log::{Generation, LogId, LogPart};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ClientId, DeviceId, Seq, Time, UserId};
use tidings_store::conformance::wait;
use tidings_store::{Append, Direction, Durability, ReadLog, Store, Want};
use tidings_store_embedded::{EmbeddedStore, Settings, verify};

/// That of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Characters of a message's text.
const TEXT: usize = 120;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if let Some(growing) = arguments
        .peek()
        .and_then(|argument| growth::Growing::parse(argument))
    {
        return growth::run(growing, arguments.skip(1).collect());
    }
    let folder = PathBuf::from(
        arguments
            .next()
            .unwrap_or_else(|| "target/measure-store".to_owned()),
    );
    let entries: u64 = arguments
        .next()
        .map_or(2_000_000, |count| count.parse().unwrap());
    if arguments.next().as_deref() == Some("child") {
        fill(&folder, entries);
        std::process::abort();
    }
    let _ = std::fs::remove_dir_all(&folder);
    talk(&folder);
    appends(&folder);
    reads(&folder);
    opening(&folder, entries);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What a busy server asks of the store: rounds of messages in many conversations, and the marks of those who receive
/// and read them. The time that a message takes is that of the whole process.
fn talk(folder: &Path) {
    const MESSAGES: u64 = 400_000;
    println!(
        "| conversations | messages/s | commits p50 | p99 | longest | CPU of a message | disk for one |"
    );
    println!("|---|---|---|---|---|---|---|");
    for conversations in [100, 500, 2_000] {
        let store = EmbeddedStore::open(folder, Settings::default()).unwrap();
        let (mut heads, mut commits) = (vec![0; conversations as usize], Vec::new());
        let (mut done, started, cpu) = (0, Instant::now(), cpu());
        while done < MESSAGES {
            let first = (done / ROUND * ROUND) as u32;
            let round: Vec<u32> = (0..ROUND as u32)
                .map(|index| (first + index) % conversations)
                .collect();
            let appends = round.iter().map(|number| {
                heads[*number as usize] += 1;
                append(log(*number), heads[*number as usize], 1, TEXT)
            });
            let appends = appends.collect();
            let began = Instant::now();
            for result in wait(store.append_all(appends)) {
                result.unwrap();
            }
            commits.push(began.elapsed());
            for number in round {
                let marks = read(log(number), heads[number as usize]);
                wait(store.raise_marks(marks, Durability::Late)).unwrap();
            }
            done += ROUND;
            // As many as arrive in a second, so that what waits for a moment does.
            let due = started + Duration::from_secs(1).mul_f64(done as f64 / RATE);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (took, spent) = (started.elapsed(), self::cpu() - cpu);
        drop(store);
        commits.sort_unstable();
        println!(
            "| {conversations} | {:.0} | {:.2?} | {:.2?} | {:.2?} | {:.1?} | {} B |",
            done as f64 / took.as_secs_f64(),
            commits[commits.len() / 2],
            commits[commits.len() * 99 / 100],
            commits[commits.len() - 1],
            spent / done as u32,
            size(folder) / done
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
    println!();
}

/// Messages that are appended together, and in a second.
const ROUND: u64 = 40;
const RATE: f64 = 40_000.0;

/// Somebody has received and read a log up to `seq`.
fn read(log: LogId, seq: Seq) -> Vec<Mark> {
    let mark = |owner, kind| Mark {
        log,
        owner,
        kind,
        lane: 0,
        value: MarkValue {
            seq,
            ordinal: seq,
            own: seq / 2,
            at: Time(1_700_000_000_000 + seq),
        },
    };
    let (user, device) = ([seq as u8 % 2; 16], [2 + seq as u8 % 2; 16]);
    let kinds = [MarkKind::Delivered, MarkKind::Read, MarkKind::Shown];
    let of_user = kinds.map(|kind| mark(user, kind));
    let of_device = mark(device, MarkKind::Device);
    of_user.into_iter().chain([of_device]).collect()
}

/// What this process has spent of the processors (proc(5): fields 14 and 15 of `stat`, in hundredths of a second).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Each thread appends to a log of its own, one entry at a time.
fn appends(folder: &Path) {
    println!("| appending at once | entries/s | p50 | p99 |\n|---|---|---|---|");
    let store = EmbeddedStore::open(folder, Settings::default()).unwrap();
    let mut first_log = 0;
    for threads in [1, 8, 64, 256, 1_024] {
        let until = Instant::now() + Duration::from_secs(4);
        let started = Instant::now();
        let latencies: Vec<Vec<Duration>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    let store = &store;
                    scope.spawn(move || {
                        let mut latencies = Vec::new();
                        while Instant::now() < until {
                            let started = Instant::now();
                            let seq = latencies.len() as Seq + 1;
                            wait(store.append(append(log(first_log + thread), seq, 1, TEXT)))
                                .unwrap();
                            latencies.push(started.elapsed());
                        }
                        latencies
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let elapsed = started.elapsed();
        first_log += threads;
        let mut latencies: Vec<Duration> = latencies.into_iter().flatten().collect();
        latencies.sort_unstable();
        let rate = latencies.len() as f64 / elapsed.as_secs_f64();
        let of = |part: usize| latencies[(latencies.len() * part / 100).min(latencies.len() - 1)];
        println!(
            "| {threads} | {rate:.0} | {:.2?} | {:.2?} |",
            of(50),
            of(99)
        );
    }
}

fn reads(folder: &Path) {
    let store = EmbeddedStore::open(folder, Settings::default()).unwrap();
    let started = Instant::now();
    let mut pages = 0_u32;
    let mut entries = 0;
    while started.elapsed() < Duration::from_secs(2) {
        let read = ReadLog {
            from: u64::from(pages % 40) * 10 + 1,
            direction: Direction::Forwards,
            limit: 50,
            bytes_max: usize::MAX,
            want: Want::Entries,
        };
        entries += wait(store.read(log(1 + pages % 8), read))
            .unwrap()
            .entries
            .len();
        pages += 1;
    }
    let each = started.elapsed() / pages;
    println!(
        "\na page of {} entries in {each:.2?}",
        entries / pages as usize
    );
    let started = Instant::now();
    for number in 0..100_000_u32 {
        wait(store.head(log(number % 300))).unwrap();
    }
    println!("a head in {:.2?}", started.elapsed() / 100_000);
}

/// Fills stores of growing size in a process that aborts without closing, and opens them.
fn opening(folder: &Path, entries: u64) {
    println!("\n| entries | on disk | opened after a kill in | checked in |\n|---|---|---|---|");
    for entries in [entries / 10, entries / 3, entries] {
        std::fs::remove_dir_all(folder).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                folder.as_os_str(),
                entries.to_string().as_ref(),
                "child".as_ref(),
            ])
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "the child was to abort");
        let started = Instant::now();
        let store = EmbeddedStore::open(folder, Settings::default()).unwrap();
        let opened = started.elapsed();
        drop(store);
        let started = Instant::now();
        assert_eq!(verify(folder).unwrap(), Vec::<String>::new());
        let checked = started.elapsed();
        println!(
            "| {entries} | {} MiB | {opened:.2?} | {checked:.2?} |",
            size(folder) >> 20
        );
    }
}

fn fill(folder: &Path, entries: u64) {
    const AT_ONCE: u32 = 32;
    let store = EmbeddedStore::open(folder, Settings::default()).unwrap();
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..AT_ONCE {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut head = 0;
                while done.fetch_add(10, Ordering::Relaxed) < entries {
                    wait(store.append(append(log(thread), head + 1, 10, TEXT))).unwrap();
                    head += 10;
                }
            });
        }
    });
    std::mem::forget(store);
}

fn log(number: u32) -> LogId {
    let mut owner = [1; 16];
    owner[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    LogId {
        owner,
        part: LogPart::Conversation,
    }
}

fn append(log: LogId, first: Seq, count: u64, characters: usize) -> Append {
    Append {
        log,
        expected_head: first - 1,
        generation: Generation([7; 16]),
        entries: (first..first + count)
            .map(|seq| message(log, seq, characters))
            .collect(),
        retention: Retention::Forever,
        erase: Vec::new(),
        marks: Vec::new(),
        state: None,
    }
}

fn message(log: LogId, seq: Seq, characters: usize) -> Entry {
    let mut client_id = log.owner;
    client_id[8..].copy_from_slice(&seq.to_be_bytes());
    let content = TextContent {
        text: format!("{seq:characters$}"),
        ..TextContent::default()
    };
    Entry {
        envelope: Envelope {
            seq,
            kind: Kind::Message,
            rules: 1,
            author: UserId(log.owner),
            device: DeviceId(log.owner),
            at: Time(1_700_000_000_000 + seq),
            client_id: ClientId(client_id),
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

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            if entry.path().is_dir() {
                size(&entry.path())
            } else {
                entry.metadata().unwrap().len()
            }
        })
        .sum()
}
