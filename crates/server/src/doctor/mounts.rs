//! On what kind of file system a directory lies, and whether what is synced there stays.

use std::path::Path;

/// A line of `/proc/self/mountinfo` (proc(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `ext4`, `nfs4`, …
    pub(super) kind: String,
    /// Of this mount and of the file system.
    pub(super) options: Vec<String>,
}

/// What to think of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// What is synced stays, as far as can be known.
    Fine,
    /// It may not, or not for long.
    Doubtful(&'static str),
    /// It does not.
    Wrong(&'static str),
}

/// The mount in which a path (without links) is.
pub(super) fn mount_of(table: &str, path: &Path) -> Option<Mount> {
    let mounts = table.lines().filter_map(|line| {
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ').skip(4);
        let (point, of_mount) = (first.next()?.replace("\\040", " "), first.next()?);
        let mut second = second.split(' ');
        let (kind, of_system) = (second.next()?, second.nth(1).unwrap_or_default());
        path.starts_with(&point).then(|| {
            let options = of_mount.split(',').chain(of_system.split(','));
            let mount = Mount {
                kind: kind.to_owned(),
                options: options.map(str::to_owned).collect(),
            };
            (point.len(), mount)
        })
    });
    // The nearest; of several at one place the last covers the others.
    mounts
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, mount)| mount)
}

pub(super) fn judge(mount: &Mount) -> Judgement {
    let has = |option: &str| mount.options.iter().any(|of| of == option);
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" => Judgement::Wrong("it is in memory, and gone with the next restart"),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "vboxsf" | "ceph" | "glusterfs"
        | "fuse.sshfs" | "fuse.glusterfs" => {
            Judgement::Wrong("locks and syncs over a network are not to be relied on")
        }
        _ if has("ro") => Judgement::Wrong("it cannot be written to"),
        "overlay" => Judgement::Doubtful("a container's own layer is gone with the container"),
        kind if kind.starts_with("fuse") => {
            Judgement::Doubtful("whether a sync reaches the disk is up to a program")
        }
        "vfat" | "exfat" | "msdos" => {
            Judgement::Doubtful("it has no journal, and no owners of files")
        }
        _ if has("nobarrier") || has("barrier=0") => {
            Judgement::Doubtful("it is mounted without barriers: a power cut loses what was synced")
        }
        _ => Judgement::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:25 / /tmp rw,nosuid shared:2 - tmpfs tmpfs rw,size=8g
40 22 0:44 / /srv/my\\040data rw - nfs4 store:/data rw,hard
41 22 8:2 / /var/lib rw,noatime - ext4 /dev/sdb1 rw,nobarrier
42 22 0:50 / /ro ro,relatime - xfs /dev/sdc1 rw
50 22 0:60 / /box rw - overlay overlay rw,lowerdir=a
";

    fn judged(path: &str) -> (String, Judgement) {
        let mount = mount_of(TABLE, Path::new(path)).unwrap();
        (mount.kind.clone(), judge(&mount))
    }

    #[test]
    fn the_nearest_mount_decides() {
        assert_eq!(judged("/home/data"), ("ext4".to_owned(), Judgement::Fine));
        assert_eq!(
            judged("/tmpfile").0,
            "ext4",
            "a name that begins alike is another"
        );
        assert!(matches!(judged("/tmp/data"), (kind, Judgement::Wrong(_)) if kind == "tmpfs"));
        assert!(matches!(judged("/srv/my data/x"), (kind, Judgement::Wrong(_)) if kind == "nfs4"));
        assert!(matches!(judged("/ro/data").1, Judgement::Wrong(_)));
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn what_may_not_stay_is_doubtful() {
        assert!(matches!(
            judged("/var/lib/tidings").1,
            Judgement::Doubtful(_)
        ));
        assert!(matches!(judged("/box").1, Judgement::Doubtful(_)));
    }
}
