//! The data directory: its format, whose it is, the disk under it. Takes no lock: the server may run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tidings_store_embedded::FORMAT;

use super::mounts::{self, Mount};
use super::report::Report;
use crate::metrics::{Space, space_of};

/// Below this share of free space it is time to plan, and below that to act.
const FREE_PLANNED: f64 = 0.15;
const FREE_LEAST: f64 = 0.03;
/// And below so many bytes.
const FREE_LEAST_BYTES: u64 = 500_000_000;
/// A sync that takes longer makes every message wait …
const SYNC_SLOW: Duration = Duration::from_millis(50);
/// … and one that takes no longer than this reaches no disk.
const SYNC_IMPOSSIBLE: Duration = Duration::from_micros(5);
/// Syncs that are tried; the middle one counts.
const SYNCS: usize = 5;
/// Files whose owner is looked at.
#[cfg(unix)]
const FILES_MAX: usize = 10_000;

/// Looks at the directory; says whether it is one of ours.
pub(super) fn examine(path: &Path, report: &mut Report) {
    let shown = path.display();
    if !path.exists() {
        let parent = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let parent = parent.ancestors().find(|folder| folder.exists());
        let parent = parent.unwrap_or(Path::new("/")).to_owned();
        report.ok(
            "data",
            format!("{shown} is not there yet: the first start makes it"),
        );
        examine_rights(&parent, report);
        examine_space(&parent, report);
        examine_mount(&parent, report);
        return;
    }
    match tidings_store_embedded::format_of(path) {
        Ok(None) => report.ok("data", format!("{shown} is empty")),
        Ok(Some(FORMAT)) => report.ok("data", format!("{shown} has format {FORMAT}")),
        Ok(Some(older)) => report.ok(
            "data",
            format!("{shown} has format {older}: the next start brings it up to {FORMAT}; make a backup before"),
        ),
        Err(error) => {
            let (text, advice) = advice_in(&error.to_string());
            return report.fault("data", text, advice);
        }
    }
    examine_rights(path, report);
    examine_owners(path, report);
    examine_readers(path, report);
    examine_space(path, report);
    examine_mount(path, report);
    examine_times(path, report);
    examine_sync(path, report);
}

/// Errors of the store say after a semicolon what to do.
fn advice_in(error: &str) -> (String, String) {
    let (text, advice) = error.rsplit_once("; ").unwrap_or((error, ""));
    (text.to_owned(), advice.to_owned())
}

/// Whether this user can write there.
fn examine_rights(path: &Path, report: &mut Report) {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let shown = path.display();
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        match access(path, all) {
            Ok(()) => report.ok("rights", format!("this user can write to {shown}")),
            Err(_) => report.fault(
                "rights",
                format!("this user can not write to {shown}"),
                format!("run this command, and the server, as the user that owns it, or: chown -R USER {shown}"),
            ),
        }
    }
    #[cfg(not(unix))]
    let _ = (path, report);
}

/// Whether all of it is the same user's.
fn examine_owners(path: &Path, report: &mut Report) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let shown = path.display();
        let Ok(owner) = std::fs::metadata(path).map(|found| found.uid()) else {
            return;
        };
        let of_others = files_in(path)
            .find(|file| std::fs::symlink_metadata(file).is_ok_and(|found| found.uid() != owner));
        match of_others {
            Some(file) => report.fault(
                "owner",
                format!("{} is not the same user's as {shown}", file.display()),
                format!("a command was run as another user; chown -R {owner} {shown}"),
            ),
            None => report.ok("owner", format!("all of it is user {owner}'s")),
        }
    }
    #[cfg(not(unix))]
    let _ = (path, report);
}

/// The files in a data directory, and those in its folders.
#[cfg(unix)]
fn files_in(path: &Path) -> impl Iterator<Item = PathBuf> {
    let inside = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let first = inside(path);
    let second: Vec<PathBuf> = first.iter().flat_map(|path| inside(path)).collect();
    first.into_iter().chain(second).take(FILES_MAX)
}

/// Who may read the messages.
fn examine_readers(path: &Path, report: &mut Report) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let Ok(found) = std::fs::metadata(path) else {
            return;
        };
        if found.permissions().mode() & 0o007 != 0 {
            report.warning(
                "readers",
                "every user of this machine may look into the data directory, where messages lie",
                format!("chmod o= {}", path.display()),
            );
        } else {
            report.ok("readers", "its user, and perhaps a group");
        }
    }
    #[cfg(not(unix))]
    let _ = (path, report);
}

fn examine_space(path: &Path, report: &mut Report) {
    if let Ok(space) = space_of(path) {
        judge_space(space, report);
    }
}

fn judge_space(space: Space, report: &mut Report) {
    let share = space.free as f64 / space.size.max(1) as f64;
    let what = format!(
        "{:.1} GB free of {:.1} GB",
        space.free as f64 / 1e9,
        space.size as f64 / 1e9
    );
    if share < FREE_LEAST || space.free < FREE_LEAST_BYTES {
        let advice = "make room: a write that fails stops the server";
        report.fault("disk", what, advice);
    } else if share < FREE_PLANNED {
        let advice = "plan more: merging tables and backups need room";
        report.warning("disk", what, advice);
    } else {
        report.ok("disk", what);
    }
}

fn examine_mount(path: &Path, report: &mut Report) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Ok(path) = path.canonicalize() else {
        return;
    };
    if let Some(mount) = mounts::mount_of(&table, &path) {
        judge_mount(&mount, report);
    }
}

fn judge_mount(mount: &Mount, report: &mut Report) {
    let Mount { kind, .. } = mount;
    let name = "file system";
    match mounts::judge(mount) {
        mounts::Judgement::Fine => report.ok(name, kind.clone()),
        mounts::Judgement::Doubtful(why) => report.warning(
            name,
            format!("{kind}: {why}"),
            "ext4 or xfs on a disk of this machine, with the options as they come",
        ),
        mounts::Judgement::Wrong(why) => report.fault(
            name,
            format!("{kind}: {why}"),
            "move the data directory to ext4 or xfs on a disk of this machine (server.data)",
        ),
    }
}

/// Whether the clock has gone back since something was written.
fn examine_times(path: &Path, report: &mut Report) {
    let folders = ["journal", "rows", "bodies"].map(|folder| path.join(folder));
    let written = folders
        .iter()
        .filter_map(|folder| std::fs::metadata(folder).ok()?.modified().ok())
        .max();
    let ahead = written.and_then(|at| at.duration_since(SystemTime::now()).ok());
    match ahead.filter(|ahead| *ahead > Duration::from_secs(5)) {
        Some(ahead) => report.fault(
            "clock",
            format!(
                "something was written {} s from now: this machine's clock went back",
                ahead.as_secs()
            ),
            "set the clock, and run chrony",
        ),
        None => report.ok("clock", "is behind nothing that was written"),
    }
}

/// How long the disk takes to promise that something is on it.
fn examine_sync(path: &Path, report: &mut Report) {
    let mut times = match sync_times(path) {
        Ok(times) => times,
        Err(error) => {
            return report.fault(
                "sync",
                format!("nothing can be written there: {error}"),
                "mend the disk or its rights",
            );
        }
    };
    times.sort_unstable();
    let middle = times.get(SYNCS / 2).copied().unwrap_or_default();
    judge_sync(middle, report);
}

fn sync_times(path: &Path) -> std::io::Result<Vec<Duration>> {
    use std::io::Write;
    let mut file = tempfile_in(path)?;
    (0..SYNCS)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[0x5a; 4_096])?;
            file.sync_data()?;
            Ok(began.elapsed())
        })
        .collect()
}

/// A file that is gone when it is closed.
fn tempfile_in(path: &Path) -> std::io::Result<std::fs::File> {
    let path = path.join(format!("doctor-{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn judge_sync(time: Duration, report: &mut Report) {
    if time > SYNC_SLOW {
        report.warning(
            "sync",
            format!("the disk takes {time:.1?} for a sync, and so does every message"),
            "a faster disk, nothing else that writes to it, no network file system",
        );
    } else if time < SYNC_IMPOSSIBLE {
        report.warning(
            "sync",
            format!("a sync takes {time:.1?}: nothing reaches a disk in that time"),
            "find what leaves syncs out (eatmydata, a disk image, a virtual disk with unsafe caching): a power cut \
             would lose what was acknowledged",
        );
    } else {
        report.ok("sync", format!("takes {time:.1?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn examined(path: &Path) -> Report {
        let mut report = Report::default();
        examine(path, &mut report);
        report
    }

    fn made() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let settings = tidings_store_embedded::Settings::default();
        drop(tidings_store_embedded::EmbeddedStore::open(&path, settings).unwrap());
        (folder, path)
    }

    #[test]
    fn a_directory_that_the_server_made_is_well_while_it_is_open_too() {
        let (_folder, path) = made();
        let settings = tidings_store_embedded::Settings::default();
        let _open = tidings_store_embedded::EmbeddedStore::open(&path, settings).unwrap();
        let report = examined(&path);
        for check in ["data", "rights", "owner", "readers", "clock"] {
            assert_eq!(report.of(check), Some(Verdict::Ok), "{check}: {report:?}");
        }
        assert!(!path.join(format!("doctor-{}", std::process::id())).exists());
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        let report = examined(&folder.path().join("not/yet"));
        assert_eq!(report.of("data"), Some(Verdict::Ok));
        assert_eq!(report.of("rights"), Some(Verdict::Ok));
        assert!(!folder.path().join("not").exists(), "and stays so");
    }

    #[test]
    fn a_newer_format_and_what_is_not_ours_are_faults_with_advice() {
        let (_folder, path) = made();
        std::fs::write(path.join("FORMAT"), "tidings-embedded 99\n").unwrap();
        let report = examined(&path);
        assert_eq!(report.of("data"), Some(Verdict::Fault));
        assert!(
            report.findings[0].advice.contains("newer program"),
            "{report:?}"
        );
        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join("thesis.odt"), "x").unwrap();
        let report = examined(foreign.path());
        assert_eq!(report.of("data"), Some(Verdict::Fault), "{report:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_everybody_may_read_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path) = made();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(examined(&path).of("readers"), Some(Verdict::Warning));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_of_another_user_is_a_fault() {
        let (_folder, path) = made();
        // For root alone; others cannot give files away.
        if std::os::unix::fs::chown(path.join("FORMAT"), Some(12_345), None).is_ok() {
            assert_eq!(examined(&path).of("owner"), Some(Verdict::Fault));
        }
    }

    #[test]
    fn a_clock_that_went_back_is_a_fault() {
        let (_folder, path) = made();
        let later = SystemTime::now() + Duration::from_secs(3_600);
        let journal = std::fs::File::open(path.join("journal")).unwrap();
        journal.set_modified(later).unwrap();
        assert_eq!(examined(&path).of("clock"), Some(Verdict::Fault));
    }

    #[test]
    fn a_disk_that_is_full_or_fills_is_told() {
        const GB: u64 = 1_000_000_000;
        let judged = |free, size| {
            let mut report = Report::default();
            judge_space(Space { free, size }, &mut report);
            report.of("disk")
        };
        assert_eq!(judged(2 * GB, 100 * GB), Some(Verdict::Fault));
        assert_eq!(
            judged(GB / 4, GB),
            Some(Verdict::Fault),
            "whatever its share"
        );
        assert_eq!(judged(10 * GB, 100 * GB), Some(Verdict::Warning));
        assert_eq!(judged(50 * GB, 100 * GB), Some(Verdict::Ok));
    }

    #[test]
    fn syncs_that_are_slow_or_too_quick_to_be_true_are_told() {
        let judged = |time| {
            let mut report = Report::default();
            judge_sync(time, &mut report);
            report.of("sync")
        };
        assert_eq!(judged(Duration::from_millis(300)), Some(Verdict::Warning));
        assert_eq!(judged(Duration::from_nanos(900)), Some(Verdict::Warning));
        assert_eq!(judged(Duration::from_millis(2)), Some(Verdict::Ok));
    }
}
