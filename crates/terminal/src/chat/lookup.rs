//! Commands, and those that must first know who somebody is.

use tidings_client::{Client, Recipient};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::entry::{Role, Settings, SettingsChange};

use super::app::App;
use super::command::{Command, write_link};
use super::screen::{Composing, Confirmed, Overlay, is_message};
use crate::plain;

/// What waits for names.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// In lower case.
    usernames: Vec<String>,
    users: Vec<UserId>,
    then: Then,
}

/// What is done with the users.
#[derive(Clone, Debug)]
enum Then {
    Talk,
    Group(String),
    Invite(ConversationId),
    Remove(ConversationId),
    Role(ConversationId, Role),
}

impl App {
    pub(super) fn command(&mut self, client: &mut Client, command: Command, now: Time) {
        let here = self.here();
        match command {
            Command::Dm(username) => self.look_up(client, vec![username], Then::Talk, now),
            Command::Group { name, users } if users.is_empty() => {
                self.done(client, Then::Group(name), Vec::new(), now)
            }
            Command::Group { name, users } => self.look_up(client, users, Then::Group(name), now),
            Command::Join(id, link) => {
                client.join(now, id, link);
                self.open(client, now, id, Recipient::Conversation(id));
            }
            Command::Devices => self.wants_devices = true,
            Command::Help => self.screen.overlay = Some(Overlay::Help { scroll: 0 }),
            Command::Quit => self.quits = true,
            command => match here {
                Some(id) => self.command_here(client, id, command, now),
                None => self.screen.complain("choose a conversation first"),
            },
        }
    }

    fn command_here(
        &mut self,
        client: &mut Client,
        id: ConversationId,
        command: Command,
        now: Time,
    ) {
        let change = |change: SettingsChange, client: &mut Client| {
            client.configure(now, id, change);
        };
        match command {
            Command::Invite(users) => self.look_up(client, users, Then::Invite(id), now),
            Command::Remove(user) => self.look_up(client, vec![user], Then::Remove(id), now),
            Command::Role(user, role) => {
                self.look_up(client, vec![user], Then::Role(id, role), now)
            }
            Command::Leave => {
                let question = "Leave this group?".to_owned();
                self.screen.overlay = Some(Overlay::Confirm {
                    question,
                    then: Confirmed::Leave(id),
                });
            }
            Command::Rename(name) => change(
                SettingsChange {
                    name: Some(name),
                    ..SettingsChange::default()
                },
                client,
            ),
            Command::Describe(text) => {
                change(
                    SettingsChange {
                        description: Some(text),
                        ..SettingsChange::default()
                    },
                    client,
                );
            }
            Command::Vanish(after) => {
                change(
                    SettingsChange {
                        vanish_after_ms: Some(after),
                        ..SettingsChange::default()
                    },
                    client,
                );
            }
            Command::Link(on) => self.link(client, id, on, now),
            Command::Members => self.show_members(),
            Command::Reply(text) => self.reply(client, text, now),
            Command::Edit(text) if text.is_empty() => self.begin_edit(),
            Command::Edit(text) => {
                self.begin_edit();
                if let composing @ Composing::Edit(_) = self.screen.composing {
                    self.screen.editor.take();
                    self.say(client, text, composing, now);
                    self.screen.composing = Composing::Message;
                }
            }
            Command::Delete => self.ask_delete(),
            Command::React(emoji) => self.react(client, &emoji, now),
            Command::Retry => self.retry(client, now),
            Command::Cancel => self.cancel(client, now),
            Command::Dm(_)
            | Command::Group { .. }
            | Command::Join(..)
            | Command::Devices
            | Command::Help
            | Command::Quit => {}
        }
    }

    fn reply(&mut self, client: &mut Client, text: String, now: Time) {
        let screen = &self.screen;
        let me = screen.model.me;
        let target = screen
            .target(|item| is_message(item) && (screen.selected.is_some() || item.author != me));
        match target.and_then(|item| item.seq) {
            Some(seq) if text.is_empty() => self.screen.composing = Composing::Reply(seq),
            Some(seq) => {
                self.say(client, text, Composing::Reply(seq), now);
            }
            None => self.screen.complain("there is no message to answer"),
        }
    }

    fn link(&mut self, client: &mut Client, id: ConversationId, on: bool, now: Time) {
        let details = self
            .screen
            .model
            .current
            .as_ref()
            .and_then(|current| current.details.as_ref());
        let link = details.and_then(|details| details.settings.invite_link.clone());
        match (link, on) {
            (Some(link), true) => {
                let text = format!(
                    "Whoever types this comes in:\n\n/join {}",
                    write_link(id, &link.0)
                );
                self.screen.overlay = Some(Overlay::Text {
                    title: "Invite link".to_owned(),
                    text,
                    scroll: 0,
                });
            }
            (_, on) => {
                let change = SettingsChange {
                    invite_link: Some(on),
                    ..SettingsChange::default()
                };
                client.configure(now, id, change);
                self.screen.say(if on {
                    "An invite link is made; /link again shows it."
                } else {
                    "The link is withdrawn."
                });
            }
        }
    }

    fn show_members(&mut self) {
        let details = self
            .screen
            .model
            .current
            .as_ref()
            .and_then(|current| current.details.as_ref());
        let Some(details) = details else { return };
        let mut text = format!("{} members\n\n", details.member_count);
        for member in &details.members {
            let role = match member.role {
                Role::Owner => " (owner)",
                Role::Admin => " (admin)",
                Role::Member => "",
            };
            let username = self
                .screen
                .model
                .profiles
                .get(&member.user)
                .map_or("", |profile| &profile.username);
            text += &format!(
                "{}  @{username}{role}\n",
                self.screen.model.name(member.user)
            );
        }
        if details.members.is_empty() {
            text += "They are too many to be listed here.";
        }
        let title = plain::name(&details.view.name, 40);
        self.screen.overlay = Some(Overlay::Text {
            title,
            text,
            scroll: 0,
        });
    }

    fn look_up(&mut self, client: &mut Client, usernames: Vec<String>, then: Then, now: Time) {
        for username in &usernames {
            client.look_up(now, username);
        }
        self.screen
            .say(format!("Looking for {} …", usernames.join(", ")));
        let usernames = usernames
            .into_iter()
            .map(|name| name.to_lowercase())
            .collect();
        self.lookups.waiting.push(Waiting {
            usernames,
            users: Vec::new(),
            then,
        });
    }

    /// The server has said who it is, or that there is nobody.
    pub(super) fn looked_up(
        &mut self,
        client: &mut Client,
        username: &str,
        user: Option<UserId>,
        now: Time,
    ) {
        let username = username.to_lowercase();
        let mut ready = Vec::new();
        let mut missing = false;
        self.lookups.waiting.retain_mut(|waiting| {
            let Some(at) = waiting.usernames.iter().position(|name| *name == username) else {
                return true;
            };
            waiting.usernames.remove(at);
            match user {
                Some(user) => waiting.users.push(user),
                None => {
                    missing = true;
                    return false;
                }
            }
            let is_ready = waiting.usernames.is_empty();
            if is_ready {
                ready.push((waiting.then.clone(), std::mem::take(&mut waiting.users)));
            }
            !is_ready
        });
        if missing {
            self.screen
                .complain(format!("there is no user {}", plain::name(&username, 40)));
        }
        for (then, users) in ready {
            self.screen.notice = None;
            self.done(client, then, users, now);
        }
    }

    fn done(&mut self, client: &mut Client, then: Then, users: Vec<UserId>, now: Time) {
        let me = self.screen.model.me;
        let first = users.first().copied();
        match (then, first) {
            (Then::Group(name), _) => {
                let users = users.into_iter().filter(|user| *user != me).collect();
                let settings = Settings {
                    name,
                    ..Settings::default()
                };
                self.awaited
                    .insert(client.create_group(now, users, settings));
            }
            (_, None) => {}
            (Then::Talk, Some(user)) if user == me => self.screen.complain("that is you"),
            (Then::Talk, Some(user)) => self.open_direct(client, now, user),
            (Then::Invite(id), _) => {
                client.invite(now, id, users);
            }
            (Then::Remove(id), Some(user)) => {
                client.remove(now, id, user);
            }
            (Then::Role(id, role), Some(user)) => {
                client.set_role(now, id, user, role);
            }
        }
    }
}
