//! The machine: how many connections its limits admit, and memory.

use super::report::Report;
use crate::config::Settings;
use crate::metrics::{memory_limit, open_files_max};

/// Files that are open besides the connections.
const FILES_BESIDES: u64 = 1_000;
/// With fewer nothing works for long.
const FILES_LEAST: u64 = 4_096;
/// Connections that the system holds until they are accepted: what the server asks for.
const BACKLOG: u64 = 4_096;
/// With less memory the defaults are too large.
const MEMORY_LEAST: u64 = 512 << 20;

/// What the system says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// Files that the server may open.
    pub(super) files_max: Option<u64>,
    /// `net.core.somaxconn`.
    pub(super) backlog_max: Option<u64>,
    /// `net.netfilter.nf_conntrack_max`, where connections are tracked.
    pub(super) tracked_max: Option<u64>,
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
}

impl Machine {
    /// As it is. `files_max`: of the server, if one runs.
    pub(super) fn here(files_max: Option<u64>) -> Machine {
        let number = |path: &str| {
            let text = std::fs::read_to_string(path).ok()?;
            text.trim().parse::<u64>().ok()
        };
        Machine {
            files_max: files_max.or_else(open_files_max),
            backlog_max: number("/proc/sys/net/core/somaxconn"),
            tracked_max: number("/proc/sys/net/netfilter/nf_conntrack_max"),
            memory: memory_limit(),
        }
    }
}

/// Looks at the machine.
pub(super) fn examine(machine: &Machine, settings: &Settings, report: &mut Report) {
    let expected = settings
        .cluster
        .sessions_max
        .min(settings.limits.connections_max as u64);
    if let Some(files) = machine.files_max {
        let clients = files.saturating_sub(FILES_BESIDES);
        let advice = format!(
            "LimitNOFILE={} for the service (ulimit -n), or set cluster.sessions_max to what you expect",
            expected + FILES_BESIDES
        );
        if files < FILES_LEAST {
            report.fault("open files", format!("at most {files} may be open"), advice);
        } else if clients < expected {
            report.warning(
                "open files",
                format!("at most {files} may be open: {clients} connections, and {expected} are expected (cluster.sessions_max)"),
                advice,
            );
        } else {
            report.ok("open files", format!("at most {files}"));
        }
    }
    match machine.backlog_max {
        Some(max) if max < BACKLOG => report.warning(
            "backlog",
            format!("net.core.somaxconn is {max}: when everybody comes back at once, some must try again"),
            format!("sysctl -w net.core.somaxconn={BACKLOG}, and in /etc/sysctl.d"),
        ),
        Some(max) => report.ok("backlog", format!("net.core.somaxconn is {max}")),
        None => {}
    }
    if let Some(max) = machine.tracked_max
        && max < expected
    {
        report.warning(
            "tracking",
            format!("the firewall follows at most {max} connections, and {expected} are expected"),
            "raise net.netfilter.nf_conntrack_max, or do not track the server's port",
        );
    }
    match machine.memory {
        Some(memory) if memory < MEMORY_LEAST => report.warning(
            "memory",
            format!("{} MB", memory >> 20),
            "lower store.cache_bytes and chat.hot_conversations_max, or give it more",
        ),
        Some(memory) => report.ok("memory", format!("{:.1} GB", memory as f64 / 1e9)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    const WELL: Machine = Machine {
        files_max: Some(1_048_576),
        backlog_max: Some(4_096),
        tracked_max: Some(262_144),
        memory: Some(8 << 30),
    };

    fn examined(machine: Machine) -> Report {
        let mut report = Report::default();
        examine(&machine, &Settings::default(), &mut report);
        report
    }

    #[test]
    fn a_usual_server_is_well() {
        assert_eq!(examined(WELL).verdict(), Verdict::Ok);
        assert_eq!(
            examined(Machine::default()).verdict(),
            Verdict::Ok,
            "nothing is known"
        );
    }

    #[test]
    fn limits_below_what_is_expected_are_told() {
        let files = |files_max| {
            let files_max = Some(files_max);
            examined(Machine { files_max, ..WELL }).of("open files")
        };
        assert_eq!(files(1_024), Some(Verdict::Fault));
        assert_eq!(files(20_000), Some(Verdict::Warning));
        assert_eq!(files(101_000), Some(Verdict::Ok));
        let backlog = examined(Machine {
            backlog_max: Some(128),
            ..WELL
        });
        assert_eq!(backlog.of("backlog"), Some(Verdict::Warning));
        let tracked = examined(Machine {
            tracked_max: Some(65_536),
            ..WELL
        });
        assert_eq!(tracked.of("tracking"), Some(Verdict::Warning));
        let memory = examined(Machine {
            memory: Some(256 << 20),
            ..WELL
        });
        assert_eq!(memory.of("memory"), Some(Verdict::Warning));
    }
}
