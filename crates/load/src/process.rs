//! What the system knows of a process: CPU time and resident memory, from `/proc`; and of time that it was not given.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Processes that are looked at; what is said of them is the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes(Vec<u32>);

impl Processes {
    /// The processes with these ids.
    #[must_use]
    pub fn new(pids: Vec<u32>) -> Processes {
        Processes(pids)
    }

    /// The generator itself.
    #[must_use]
    pub fn own() -> Processes {
        Processes(vec![std::process::id()])
    }

    /// CPU time of all their threads so far, in user and kernel. `None` if one is not there, or there is none.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        self.sum(cpu_of)
    }

    /// Resident memory in bytes, to the page. `None` if one is not there, or there is none.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        self.sum(resident_bytes_of)
    }

    fn sum<T: std::iter::Sum>(&self, of: impl Fn(u32) -> Option<T>) -> Option<T> {
        let all: Option<T> = self.0.iter().map(|pid| of(*pid)).sum();
        all.filter(|_| !self.0.is_empty())
    }
}

/// CPU time of all processors so far, in ticks: what a virtual machine wanted and its host gave to others, and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stolen {
    stolen: u64,
    all: u64,
}

impl Stolen {
    /// As of now. `None` where the system does not say.
    #[must_use]
    pub fn now() -> Option<Stolen> {
        parse_stolen(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// What part of all the time since `before` was stolen, in percent.
    #[must_use]
    pub fn percent_since(self, before: Stolen) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        100.0 * self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// The first eight fields of the line `cpu` of `/proc/stat` (proc(5)): the eighth is stolen, guests' time is in others.
fn parse_stolen(stat: &str) -> Option<Stolen> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Option<Vec<u64>> = line
        .split_whitespace()
        .take(8)
        .map(|time| time.parse().ok())
        .collect();
    let times = times?;
    Some(Stolen {
        stolen: *times.get(7)?,
        all: times.iter().sum(),
    })
}

fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_cpu(&stat, rustix::param::clock_ticks_per_second())
}

fn resident_bytes_of(pid: u32) -> Option<u64> {
    // `smaps_rollup` counts pages; the figure in `status` may lag behind by megabytes.
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    read("smaps_rollup")
        .and_then(|text| parse_kb(&text, "Rss:"))
        .or_else(|| read("status").and_then(|text| parse_kb(&text, "VmRSS:")))
}

/// Raises this process's limit of open files as far as it may; children inherit it.
pub fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it fails, opening sockets will say so.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// How many files this process may open.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Bytes on disk of everything in a directory.
#[must_use]
pub fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            // Allocated blocks of 512 bytes (stat(2)), not the length: files may have been sized ahead.
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)); the name in field 2 may hold anything.
fn parse_cpu(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    let seconds = (user + system) as f64 / ticks_per_second.max(1) as f64;
    Duration::try_from_secs_f64(seconds).ok()
}

fn parse_kb(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 5 0 1 2 3";
        assert_eq!(parse_cpu(stat, 100), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu("nonsense", 100), None);
        assert_eq!(
            parse_kb("Rss:                1234 kB\nPss: 1 kB\n", "Rss:"),
            Some(1234 * 1024)
        );
    }

    #[test]
    fn stolen_time_is_a_part_of_all() {
        let stat = |user: u32, stolen: u32| {
            format!("cpu  {user} 0 20 700 10 0 5 {stolen} 900 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
        };
        let before = parse_stolen(&stat(100, 5)).unwrap();
        let after = parse_stolen(&stat(280, 25)).unwrap();
        assert_eq!((before.stolen, before.all), (5, 840));
        assert!((after.percent_since(before) - 10.0).abs() < 1e-9);
        assert_eq!(parse_stolen("cpu  1 2 3"), None);
        assert_eq!(parse_stolen("cpu0 1 2 3 4 5 6 7 8"), None);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        assert!(Processes::own().cpu().is_some());
        assert!(
            Processes::own()
                .resident_bytes()
                .is_some_and(|bytes| bytes > 100_000)
        );
    }
}
