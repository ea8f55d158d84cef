//! Reading the settings: file, then environment, then flags, each overriding what came before. A name
//! that does not exist is an error wherever it stands: a typing error must not silently mean the default.

use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use super::{SectionFacts, Settings};

/// What every variable begins with.
const PREFIX: &str = "TIDINGS_";

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// The environment: `TIDINGS_`, section and name in capitals.
    pub environment: Vec<(String, String)>,
    /// Flags: section and name (`server.listen`), and the value.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// This file and this process's environment.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Sources {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Sources {
            file,
            environment: std::env::vars_os().filter_map(text).collect(),
            flags: Vec::new(),
        }
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// There is no such section or setting.
    #[error("there is no setting `{name}` (from {origin}); `tidings config` shows all")]
    Unknown {
        /// Its name, with the section.
        name: String,
        /// The file, the variable or the flag.
        origin: String,
    },
    /// A value makes no sense.
    #[error("the setting `{name}` is wrong: {reason}")]
    Value {
        /// Its name, with the section.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The settings from these sources.
///
/// # Errors
/// Names the file, the setting and what is wrong with it.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let sections = Settings::sections();
    let mut table = Settings::default().table();
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let read: Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax {
                path: path.clone(),
                message: error.to_string(),
            })?;
        merge(&mut table, read, &path.display().to_string())?;
    }
    for (name, text) in &sources.environment {
        if let Some((section, key)) = split_variable(&sections, name) {
            set(&mut table, section, &key, text, name)?;
        }
    }
    for (name, text) in &sources.flags {
        let (section, key) = name.split_once('.').unwrap_or((name, ""));
        set(&mut table, section, key, text, "a flag")?;
    }
    check_types(&table)?;
    let settings = Settings::deserialize(Value::Table(table)).map_err(|error| wrong("", error))?;
    check_ranges(&settings)?;
    check(&settings)?;
    Ok(settings)
}

/// The section and name of a variable, `None` if it is not meant for us. Kubernetes announces a service
/// called `tidings` as `TIDINGS_PORT` and the like: what names no section is left alone.
fn split_variable<'a>(sections: &'a [SectionFacts], name: &str) -> Option<(&'a str, String)> {
    let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    sections.iter().find_map(|section| {
        let key = rest.strip_prefix(section.name)?.strip_prefix('_')?;
        let announced = key.starts_with("service_") || key == "port" || key.starts_with("port_");
        (!announced).then(|| (section.name, key.to_owned()))
    })
}

fn merge(table: &mut Table, read: Table, origin: &str) -> Result<(), ConfigError> {
    for (section, values) in read {
        let unknown = |key: &str| ConfigError::Unknown {
            name: key.to_owned(),
            origin: origin.to_owned(),
        };
        let Some(Value::Table(known)) = table.get_mut(&section) else {
            return Err(unknown(&section));
        };
        let Value::Table(values) = values else {
            return Err(ConfigError::Value {
                name: section.clone(),
                reason: format!("it is a section: write [{section}]"),
            });
        };
        for (key, value) in values {
            if !known.contains_key(&key) {
                return Err(unknown(&format!("{section}.{key}")));
            }
            known.insert(key, value);
        }
    }
    Ok(())
}

/// Sets one value from text; the default says of which type it is.
fn set(
    table: &mut Table,
    section: &str,
    key: &str,
    text: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    let name = format!("{section}.{key}");
    let slot = table
        .get_mut(section)
        .and_then(|values| values.get_mut(key))
        .ok_or_else(|| ConfigError::Unknown {
            name: name.clone(),
            origin: origin.to_owned(),
        })?;
    let value = |expected: &str| ConfigError::Value {
        name,
        reason: format!("{origin} is not {expected}"),
    };
    *slot = match Settings::default()
        .table()
        .get(section)
        .and_then(|values| values.get(key))
    {
        Some(Value::Integer(_)) => Value::Integer(
            text.replace('_', "")
                .parse()
                .map_err(|_| value("a whole number"))?,
        ),
        Some(Value::Float(_)) => Value::Float(text.parse().map_err(|_| value("a number"))?),
        Some(Value::Boolean(_)) => {
            Value::Boolean(text.parse().map_err(|_| value("true or false"))?)
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

/// One value at a time, so that the error names it.
fn check_types(table: &Table) -> Result<(), ConfigError> {
    for (section, values) in table {
        for (key, value) in values.as_table().into_iter().flatten() {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            let alone = Table::from_iter([(section.clone(), Value::Table(alone))]);
            Settings::deserialize(Value::Table(alone))
                .map_err(|error| wrong(&format!("{section}.{key}"), error))?;
        }
    }
    Ok(())
}

fn wrong(name: &str, error: toml::de::Error) -> ConfigError {
    ConfigError::Value {
        name: name.to_owned(),
        reason: error.message().to_owned(),
    }
}

/// Every number is one that makes sense.
fn check_ranges(settings: &Settings) -> Result<(), ConfigError> {
    let table = settings.table();
    for section in Settings::sections() {
        for field in section.fields {
            let value = table
                .get(section.name)
                .and_then(|values| values.get(field.name)?.as_integer());
            let (Some(range), Some(value)) = (&field.range, value) else {
                continue;
            };
            if !u64::try_from(value).is_ok_and(|value| range.contains(&value)) {
                return Err(ConfigError::Value {
                    name: format!("{}.{}", section.name, field.name),
                    reason: format!(
                        "it is {value}, and must be from {} to {}",
                        range.start(),
                        range.end()
                    ),
                });
            }
        }
    }
    Ok(())
}

/// What must fit together, and numbers with a point.
fn check(settings: &Settings) -> Result<(), ConfigError> {
    let refuse = |name: &str, reason: &str| {
        Err(ConfigError::Value {
            name: name.to_owned(),
            reason: reason.to_owned(),
        })
    };
    let users = &settings.users;
    if argon2::Params::new(
        users.password_memory_kib,
        users.password_passes,
        users.password_lanes,
        None,
    )
    .is_err()
    {
        return refuse(
            "users.password_memory_kib",
            "Argon2 takes at least 8 KiB a lane, one pass and one lane",
        );
    }
    if users.password_chars_min > users.password_bytes_max {
        return refuse(
            "users.password_chars_min",
            "it must not be above users.password_bytes_max",
        );
    }
    if users.username_chars_min > users.username_chars_max {
        return refuse(
            "users.username_chars_min",
            "it must not be above users.username_chars_max",
        );
    }
    let name = &settings.cluster.name;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if name.is_empty() || !name.chars().all(plain) {
        return refuse("cluster.name", "letters, digits, - and _");
    }
    let roles: Vec<&str> = settings.cluster.roles.split(',').map(str::trim).collect();
    if roles
        .iter()
        .any(|role| !super::ClusterSettings::ROLES.contains(role))
    {
        return refuse(
            "cluster.roles",
            "the roles are gateway and chat, with a comma between",
        );
    }
    if !(0.0..=1.0).contains(&settings.telemetry.sample_ratio) {
        return refuse("telemetry.sample_ratio", "a share: from 0 to 1");
    }
    let sessions = &settings.sessions;
    if !(sessions.heartbeat_ms_min..=sessions.heartbeat_ms_max).contains(&sessions.heartbeat_ms) {
        return refuse(
            "sessions.heartbeat_ms",
            "it must be between sessions.heartbeat_ms_min and sessions.heartbeat_ms_max",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::NamedTempFile, Sources) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let sources = Sources {
            file: Some(file.path().to_owned()),
            ..Sources::default()
        };
        (file, sources)
    }

    fn error(text: &str) -> String {
        let (kept, sources) = file(text);
        let message = load(&sources).unwrap_err().to_string();
        message.replace(&kept.path().display().to_string(), "FILE")
    }

    #[test]
    fn flags_override_the_environment_which_overrides_the_file() {
        let (_kept, mut sources) = file(
            "[server]\nlisten = '1.1.1.1:1'\ndata = 'one'\n[users]\ndevices_per_user_max = 5\nsign_up_open = false",
        );
        sources.environment = vec![
            ("TIDINGS_SERVER_DATA".into(), "two".into()),
            ("TIDINGS_SERVER_LISTEN".into(), "2.2.2.2:2".into()),
            ("TIDINGS_USERS_PASSWORD_MEMORY_KIB".into(), "1_024".into()),
            ("TIDINGS_LOG_FORMAT".into(), "json".into()),
            ("TIDINGS_PORT".into(), "tcp://10.0.0.1:80".into()),
            ("TIDINGS_CHAT_SERVICE_HOST".into(), "10.0.0.1".into()),
            ("HOME".into(), "/".into()),
        ];
        sources.flags = vec![("server.listen", "3.3.3.3:3".into())];
        let settings = load(&sources).unwrap();
        assert_eq!(settings.server.listen, "3.3.3.3:3");
        assert_eq!(settings.server.data, "two");
        assert_eq!(settings.users.devices_per_user_max, 5);
        assert!(!settings.users.sign_up_open);
        assert_eq!(settings.users.password_memory_kib, 1_024);
        assert_eq!(settings.log.format, super::super::LogFormat::Json);
        assert_eq!(settings.chat, super::super::ChatSettings::default());
    }

    #[test]
    fn errors_name_the_setting() {
        assert_eq!(
            error("[users]\ndevices_max = 5"),
            "there is no setting `users.devices_max` (from FILE); `tidings config` shows all"
        );
        assert_eq!(
            error("[user]\ndevices_max = 5"),
            "there is no setting `user` (from FILE); `tidings config` shows all"
        );
        assert!(error("[users]\ndevices_per_user_max = 'many'").starts_with(
            "the setting `users.devices_per_user_max` is wrong: invalid type: string \"many\""
        ));
        assert!(
            error("[users]\ndevices_per_user_max = -1")
                .starts_with("the setting `users.devices_per_user_max` is wrong: ")
        );
        assert!(
            error("[log]\nformat = 'xml'")
                .starts_with("the setting `log.format` is wrong: unknown variant `xml`")
        );
        assert!(error("users = 5").starts_with("the setting `users` is wrong"));
        assert!(error("[users").starts_with("FILE is not TOML"));
        assert!(error("[users]\npassword_memory_kib = 8\npassword_lanes = 2").contains("Argon2"));
        let from_environment = |name: &str, value: &str| {
            let sources = Sources {
                environment: vec![(name.into(), value.into())],
                ..Sources::default()
            };
            load(&sources).unwrap_err().to_string()
        };
        assert_eq!(
            from_environment("TIDINGS_USERS_DEVICES_MAX", "5"),
            "there is no setting `users.devices_max` (from TIDINGS_USERS_DEVICES_MAX); `tidings config` shows all"
        );
        assert_eq!(
            from_environment("TIDINGS_USERS_SIGN_UP_OPEN", "yes"),
            "the setting `users.sign_up_open` is wrong: TIDINGS_USERS_SIGN_UP_OPEN is not true or false"
        );
    }

    #[test]
    fn impossible_numbers_are_refused() {
        assert_eq!(
            error("[chat]\nhistory_page_max = 0"),
            "the setting `chat.history_page_max` is wrong: it is 0, and must be from 1 to 10000"
        );
        assert_eq!(
            error("[chat]\ndevice_silent_days = 9_223_372_036_854_775_807"),
            "the setting `chat.device_silent_days` is wrong: it is 9223372036854775807, and must be from 1 to 36500"
        );
        for name in [
            "chat.inbox_page_max",
            "chat.members_page_max",
            "chat.batch_commands_max",
            "chat.batch_bytes_max",
            "chat.queue_commands_max",
            "chat.expiry_every_ms",
            "chat.retention_every_s",
            "chat.device_silent_days",
            "store.queue_requests_max",
            "store.commit_requests_max",
            "store.read_threads",
            "sessions.heartbeat_ms",
            "sessions.heartbeat_ms_min",
            "sessions.heartbeat_ms_max",
            "presence.look_ms",
            "users.username_chars_min",
            "users.password_hashes_at_once_max",
        ] {
            let (section, key) = name.split_once('.').unwrap();
            assert!(
                error(&format!("[{section}]\n{key} = 0")).starts_with(&format!(
                    "the setting `{name}` is wrong: it is 0, and must be"
                )),
                "{name}"
            );
        }
        // Both ends of every range are taken, what is beyond is not.
        for section in Settings::sections() {
            for field in section.fields {
                let Some(range) = &field.range else { continue };
                let flag: &'static str = format!("{}.{}", section.name, field.name).leak();
                let with = |value: u64| {
                    let flags = vec![(flag, value.to_string())];
                    load(&Sources {
                        flags,
                        ..Sources::default()
                    })
                };
                let is_of_range = |value| {
                    let message = with(value).err().map(|error| error.to_string());
                    message.is_none_or(|message| !message.contains("and must be from"))
                };
                assert!(is_of_range(*range.start()), "{flag}");
                assert!(is_of_range(*range.end()), "{flag}");
                assert!(with(range.end() + 1).is_err(), "{flag}");
                assert!(
                    *range.start() == 0 || with(range.start() - 1).is_err(),
                    "{flag}"
                );
            }
        }
    }
}
