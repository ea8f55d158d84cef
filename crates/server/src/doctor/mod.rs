//! `tidings doctor`: looks at a deployment and says what to mend. Changes nothing, and takes no lock: the server may run.
//!
//! In: where the settings come from. Each part looks at one thing and adds to the report: `settings`, `directory`
//! (with `mounts`), `machine`, `server`, `cassandra`, `others`, `telemetry`.

mod cassandra;
mod directory;
mod machine;
mod mounts;
mod others;
mod report;
mod server;
mod settings;
mod telemetry;

use std::path::Path;

use crate::config::{Settings, Sources, StoreKind, load};

use machine::Machine;

pub use report::{Finding, Report, Verdict};

/// What is to be tried besides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A session's token, for what only somebody who is logged in can try.
    pub token: Option<String>,
    /// Whether to wait for a minute to see that polls may.
    pub is_patient: bool,
}

/// Looks at everything.
pub async fn examine(sources: &Sources, options: &Options) -> Report {
    let mut report = Report::default();
    let settings = match load(sources) {
        Ok(settings) => settings,
        Err(error) => {
            report.fault(
                "settings",
                error.to_string(),
                "mend it; `tidings config` shows every setting with its meaning",
            );
            return report;
        }
    };
    match &sources.file {
        Some(path) => report.ok("settings", format!("from {}", path.display())),
        None => report.ok(
            "settings",
            "without a file: the defaults, and the environment",
        ),
    }
    if let Some(path) = &sources.file {
        examine_secrets(path, &settings, &mut report);
    }
    settings::examine(&settings, &mut report);
    match settings.store.kind {
        StoreKind::Embedded => directory::examine(Path::new(&settings.server.data), &mut report),
        StoreKind::Cassandra => {
            cassandra::examine(&settings, &mut report).await;
            others::examine(&settings, &mut report).await;
        }
    }
    let said = server::examine(&settings, &mut report).await;
    let files_max = said.as_ref().and_then(|said| said.files_max);
    machine::examine(&Machine::here(files_max), &settings, &mut report);
    if let Some(ahead_s) = said.and_then(|said| said.clock_ahead_s) {
        let ahead_ms = (ahead_s * -1_000.0) as i64;
        cassandra::judge_clock("the middle one of all servers", ahead_ms, &mut report);
    }
    if !settings.telemetry.otlp_url.is_empty() {
        telemetry::examine(&settings.telemetry, &mut report).await;
    }
    if !settings.server.public_url.is_empty() {
        let (url, token) = (&settings.server.public_url, options.token.as_deref());
        server::examine_public(url, token, options.is_patient, &mut report).await;
    }
    report
}

/// Passwords in a file are for whoever runs the server.
fn examine_secrets(path: &Path, settings: &Settings, report: &mut Report) {
    let secrets = [
        &settings.cassandra.password,
        &settings.nats.password,
        &settings.nats.token,
    ];
    #[cfg(unix)]
    if secrets.iter().any(|secret| !secret.is_empty()) {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map(|found| found.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o004 != 0) {
            report.warning(
                "secrets",
                format!(
                    "every user of this machine may read {}, and passwords are set",
                    path.display()
                ),
                format!("chmod o= {}", path.display()),
            );
        }
    }
    #[cfg(not(unix))]
    let _ = (path, secrets, report);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn examined(text: &str) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidings.toml");
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let data = folder.path().join("data").display().to_string();
        let sources = Sources {
            file: Some(path),
            // Nobody is to be asked who happens to run on this machine.
            flags: vec![
                ("server.data", data),
                ("server.listen", "127.0.0.1:1".to_owned()),
                ("server.metrics_listen", "127.0.0.1:1".to_owned()),
            ],
            ..Sources::default()
        };
        examine(&sources, &Options::default()).await
    }

    #[tokio::test]
    async fn a_setting_that_does_not_exist_is_a_fault_that_names_it() {
        let report = examined("[server]\nlissten = '127.0.0.1:1'").await;
        assert_eq!(report.verdict(), Verdict::Fault);
        assert!(report.text().contains("server.lissten"), "{report:?}");
    }

    #[tokio::test]
    async fn before_the_first_start_only_the_server_is_missing() {
        let report = examined("").await;
        assert_eq!(report.of("server"), Some(Verdict::Warning));
        for check in ["settings", "metrics", "tls", "passwords", "data", "rights"] {
            assert_eq!(report.of(check), Some(Verdict::Ok), "{check}: {report:?}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn passwords_that_everybody_can_read_are_told() {
        let report = examined("[nats]\ntoken = 'secret'").await;
        assert_eq!(report.of("secrets"), Some(Verdict::Warning), "{report:?}");
        assert!(!report.text().contains("'secret'"));
    }

    #[tokio::test]
    async fn a_store_that_is_not_there_is_a_fault() {
        let report =
            examined("[store]\nkind = 'cassandra'\n[cassandra]\ncontact_points = '127.0.0.1:1'")
                .await;
        assert_eq!(report.of("cassandra"), Some(Verdict::Fault), "{report:?}");
    }
}
