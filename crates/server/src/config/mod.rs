//! Every setting of the server: its name (the unit last), its default and what it means, in one place
//! (`sections`). Set by a TOML file, then by the environment, then by flags (`load`).

pub mod load;
pub mod sections;

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Sources, load};
pub use sections::{
    Affinity, CassandraSettings, ChatSettings, ClusterSettings, LimitsSettings, LogFormat,
    LogSettings, NatsSettings, PresenceSettings, ServerSettings, SessionsSettings, StoreKind,
    StoreSettings, TelemetrySettings, UsersSettings,
};

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the server listens and keeps its data.
    pub server: ServerSettings,
    /// What it logs.
    pub log: LogSettings,
    /// Traces of messages.
    pub telemetry: TelemetrySettings,
    /// The store.
    pub store: StoreSettings,
    /// Cassandra, if that is the store.
    pub cassandra: CassandraSettings,
    /// The way to other servers.
    pub nats: NatsSettings,
    /// This server among others.
    pub cluster: ClusterSettings,
    /// Bounds on requests.
    pub limits: LimitsSettings,
    /// Live connections.
    pub sessions: SessionsSettings,
    /// Accounts, devices, private maps.
    pub users: UsersSettings,
    /// Online and last seen.
    pub presence: PresenceSettings,
    /// Conversations.
    pub chat: ChatSettings,
}

/// What is known of a section beside its values.
pub trait Section {
    /// What the section is about, a line each.
    const DOC: &'static [&'static str];
    /// Its settings in order.
    const FIELDS: &'static [FieldFacts];
}

/// A setting's name and meaning.
#[derive(Clone, Debug)]
pub struct FieldFacts {
    /// As in the file: `devices_per_user_max`.
    pub name: &'static str,
    /// What it means, a line each.
    pub doc: &'static [&'static str],
    /// The least and the most that make sense; of every number.
    pub range: Option<RangeInclusive<u64>>,
}

/// A section's name, meaning and settings.
#[derive(Clone, Copy, Debug)]
pub struct SectionFacts {
    /// As in the file: `users`.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static [&'static str],
    /// Its settings.
    pub fields: &'static [FieldFacts],
}

fn facts_of<S: Section>(name: &'static str) -> SectionFacts {
    SectionFacts {
        name,
        doc: S::DOC,
        fields: S::FIELDS,
    }
}

impl Settings {
    /// All sections in the order in which they are shown.
    #[must_use]
    pub fn sections() -> Vec<SectionFacts> {
        vec![
            facts_of::<ServerSettings>("server"),
            facts_of::<LogSettings>("log"),
            facts_of::<TelemetrySettings>("telemetry"),
            facts_of::<StoreSettings>("store"),
            facts_of::<CassandraSettings>("cassandra"),
            facts_of::<NatsSettings>("nats"),
            facts_of::<ClusterSettings>("cluster"),
            facts_of::<LimitsSettings>("limits"),
            facts_of::<SessionsSettings>("sessions"),
            facts_of::<UsersSettings>("users"),
            facts_of::<PresenceSettings>("presence"),
            facts_of::<ChatSettings>("chat"),
        ]
    }

    /// The settings as values, by section and name.
    #[must_use]
    pub fn table(&self) -> toml::Table {
        // Plain data without maps or options: it cannot fail.
        toml::Table::try_from(self).unwrap_or_default()
    }

    /// The settings as a file that says what each means, ready to be edited.
    #[must_use]
    pub fn documented(&self) -> String {
        use std::fmt::Write as _;

        let table = self.table();
        let mut text = String::from(
            "# Every setting of Tidings with its value. What is left out of a file keeps its default.\n\
             # The environment overrides the file (TIDINGS_USERS_DEVICES_PER_USER_MAX=8), flags override both.\n",
        );
        for section in Settings::sections() {
            let _ = writeln!(text);
            for line in section.doc {
                let _ = writeln!(text, "#{line}");
            }
            let _ = writeln!(text, "[{}]", section.name);
            for FieldFacts { name, doc, range } in section.fields {
                for line in *doc {
                    let _ = writeln!(text, "#{line}");
                }
                if let Some(range) = range {
                    let _ = writeln!(text, "# From {} to {}.", range.start(), range.end());
                }
                if let Some(value) = table.get(section.name).and_then(|values| values.get(*name)) {
                    let _ = writeln!(text, "{name} = {value}");
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form_is_a_file_with_every_setting() {
        let text = Settings::default().documented();
        let read: Settings = toml::from_str(&text).unwrap();
        assert_eq!(read, Settings::default());

        let table = Settings::default().table();
        let shown: Vec<&str> = Settings::sections()
            .iter()
            .map(|facts| facts.name)
            .collect();
        assert_eq!(
            shown.len(),
            table.len(),
            "a section is missing from the list"
        );
        for section in Settings::sections() {
            let values = table[section.name].as_table().unwrap();
            assert_eq!(values.len(), section.fields.len(), "[{}]", section.name);
            for FieldFacts { name, doc, range } in section.fields {
                assert!(values.contains_key(*name), "{}.{name}", section.name);
                assert!(!doc.is_empty(), "{}.{name} says nothing", section.name);
                let number = values[*name].as_integer().map(|value| value as u64);
                assert_eq!(
                    range.is_some(),
                    number.is_some(),
                    "{}.{name}: numbers have a range, and nothing else",
                    section.name
                );
                assert!(
                    number.is_none_or(|number| range.as_ref().unwrap().contains(&number)),
                    "the default of {}.{name}",
                    section.name
                );
            }
        }
    }

    #[test]
    fn the_reference_shows_the_settings_as_they_are() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/operations/settings.md"
        );
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("```toml\n").unwrap();
        let (shown, after) = rest.split_once("```").unwrap();
        let settings = Settings::default().documented();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, format!("{before}```toml\n{settings}```{after}")).unwrap();
            return;
        }
        assert!(
            shown == settings,
            "docs/operations/settings.md shows other settings; UPDATE_EXPECT=1 brings it up to date"
        );
    }
}
