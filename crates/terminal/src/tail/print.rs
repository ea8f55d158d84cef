//! One line for each message.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::tz::TimeZone;
use serde::Serialize;
use tidings_core::{ConversationId, Kind, Time, UserId};
use tidings_protocol::entry::Entry;
use tidings_protocol::presence::UsersRequest;
use tidings_protocol::{ClientFrame, ServerFrame};

use super::follow::Label;
use crate::driver::http::Http;
use crate::{names, plain};

/// How much of a name is printed, in columns.
const NAME_WIDTH: usize = 40;

pub(super) struct Printer {
    http: Http,
    me: UserId,
    json: bool,
    usernames: BTreeMap<UserId, String>,
    time_zone: TimeZone,
}

/// What `--json` prints: the entry as it stands on the wire, and who and where in words.
#[derive(Serialize)]
struct Line<'a> {
    conversation: ConversationId,
    /// A group's name; empty for a direct conversation.
    name: &'a str,
    username: &'a str,
    own: bool,
    entry: &'a Entry,
}

impl Printer {
    pub(super) fn new(http: Http, me: UserId, json: bool) -> Printer {
        Printer {
            http,
            me,
            json,
            usernames: BTreeMap::new(),
            time_zone: TimeZone::system(),
        }
    }

    pub(super) async fn print(&mut self, label: &Label, entry: &Entry) -> io::Result<()> {
        let username = self.username(entry.author).await;
        let mut out = io::stdout().lock();
        if self.json {
            let line = Line {
                conversation: label.conversation,
                name: &label.name,
                username: &username,
                own: entry.author == self.me,
                entry,
            };
            serde_json::to_writer(&mut out, &line)?;
            return writeln!(out);
        }
        let Some(what) = in_words(entry) else {
            return Ok(());
        };
        let at = self.clock(entry.at);
        let username = plain::name(&username, NAME_WIDTH);
        let place = if label.name.is_empty() {
            String::new()
        } else {
            format!("#{} ", plain::name(&label.name, NAME_WIDTH))
        };
        writeln!(out, "{at} {place}{username}{what}")
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        io::stdout().flush()
    }

    fn clock(&self, at: Time) -> String {
        let at = i64::try_from(at.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        match at {
            Some(at) => at
                .to_zoned(self.time_zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string(),
            None => "?".to_owned(),
        }
    }

    /// The author's username; the id if nobody can say it.
    async fn username(&mut self, user: UserId) -> String {
        if let Some(username) = self.usernames.get(&user) {
            return username.clone();
        }
        let request = UsersRequest {
            id: 1,
            users: vec![user],
            usernames: Vec::new(),
        };
        let answer = names::call(&mut self.http, &ClientFrame::Users(request)).await;
        match answer {
            Ok(ServerFrame::Users(users)) if !users.users.is_empty() => {
                let names = users
                    .users
                    .into_iter()
                    .map(|profile| (profile.user, profile.username));
                self.usernames.extend(names);
                self.usernames
                    .get(&user)
                    .cloned()
                    .unwrap_or_else(|| user.to_string())
            }
            _ => user.to_string(),
        }
    }
}

/// Messages and what becomes of them; nothing for the rest.
fn in_words(entry: &Entry) -> Option<String> {
    let target = entry.target.unwrap_or_default();
    let text = |entry: &Entry| match &entry.content {
        None => "(deleted)".to_owned(),
        Some(content) if content.opaque.is_some() => "(not supported here)".to_owned(),
        Some(content) => {
            let mut text = plain::line(&content.text);
            for attachment in &content.attachments {
                text = format!("{text} [{}]", plain::name(&attachment.name, NAME_WIDTH));
            }
            text
        }
    };
    match entry.kind.0 {
        Kind::Message => Some(format!(": {}", text(entry))),
        Kind::Edit => Some(format!(" (edits {target}): {}", text(entry))),
        Kind::Delete => Some(format!(" (deletes {target})")),
        _ => None,
    }
}
