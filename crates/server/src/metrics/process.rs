//! What the system knows of this process and of the disk under a directory. Read when it is asked for.

use std::path::Path;

/// Bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an ordinary user may still write.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

/// The space of the file system in which a directory is.
///
/// # Errors
/// When the system does not say.
pub fn space_of(path: &Path) -> std::io::Result<Space> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(path)?;
        Ok(Space {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            size: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// How many files may be open, by the limit in force.
#[must_use]
pub fn open_files_max() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    None
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Processor time in seconds.
    pub(super) cpu_s: f64,
    /// Bytes in memory.
    pub(super) resident: u64,
    pub(super) threads: u64,
    pub(super) open_files: u64,
}

/// What this process uses; `None` where the system does not say.
#[cfg(target_os = "linux")]
pub(super) fn usage() -> Option<Usage> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Usage {
        cpu_s: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident: number_in(&status, "VmRSS:")? * 1_024,
        threads: number_in(&status, "Threads:")?,
        open_files: open_files()?,
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn usage() -> Option<Usage> {
    None
}

/// Open files, from the size of their directory where the kernel tells it (Linux 6.2), otherwise counted.
#[cfg(target_os = "linux")]
fn open_files() -> Option<u64> {
    let directory = "/proc/self/fd";
    match std::fs::metadata(directory).ok()?.len() {
        0 => Some(std::fs::read_dir(directory).ok()?.count() as u64),
        count => Some(count),
    }
}

/// Bytes of memory that this process may use: the least of its control groups' limits and the machine's memory.
#[cfg(target_os = "linux")]
pub fn memory_limit() -> Option<u64> {
    let of_machine = number_in(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let mut least = of_machine * 1_024;
    // In a container its own group is the root.
    for folder in Path::new(group.unwrap_or("/")).ancestors() {
        let folder = folder.strip_prefix("/").unwrap_or(folder);
        let limit = Path::new("/sys/fs/cgroup").join(folder).join("memory.max");
        let limit = std::fs::read_to_string(limit).unwrap_or_default();
        least = least.min(limit.trim().parse().unwrap_or(u64::MAX));
    }
    Some(least)
}

#[cfg(not(target_os = "linux"))]
pub fn memory_limit() -> Option<u64> {
    None
}

/// The number behind a name that begins a line.
#[cfg(target_os = "linux")]
fn number_in(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_process_uses() {
        let files: Vec<_> = (0..10)
            .map(|_| std::fs::File::open("/proc/self/status").unwrap())
            .collect();
        let usage = usage().unwrap();
        assert!(usage.open_files >= files.len() as u64, "{usage:?}");
        assert!(usage.threads >= 1 && usage.cpu_s > 0.0, "{usage:?}");
        let limit = memory_limit().unwrap();
        assert!(
            (1_024 * 1_024..limit).contains(&usage.resident),
            "{usage:?} of {limit}"
        );
        assert!(open_files_max().is_none_or(|max| max >= usage.open_files));
    }

    #[test]
    fn a_directory_lies_in_a_file_system_with_a_size() {
        let space = space_of(Path::new("/")).unwrap();
        assert!(space.size > 0 && space.free <= space.size);
        assert!(space_of(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn numbers_stand_behind_their_names() {
        let text = "Name:\ttidings\nVmRSS:\t   12345 kB\n";
        assert_eq!(number_in(text, "VmRSS:"), Some(12_345));
        assert_eq!(number_in(text, "Name:"), None);
        assert_eq!(number_in(text, "Threads:"), None);
    }
}
