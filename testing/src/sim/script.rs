//! What people do, and what goes wrong.

use tidings_client::{ItemBody, Recipient};
use tidings_core::{ClientId, ConversationId, UserId};
use tidings_protocol::entry::{Content, Retention, Role, Settings, SettingsChange};

use super::{Event, Simulation};

impl Simulation {
    pub(super) fn step(&mut self) {
        let device = self.chance.below(self.devices.len() as u64) as usize;
        match self.chance.below(100) {
            0..45 => self.somebody_writes(device),
            45..52 => self.somebody_alters(device),
            52..62 => self.somebody_reads(device),
            62..70 => self.somebody_looks(device),
            70..77 => self.somebody_changes_a_group(device),
            77..79 => self.somebody_cancels(device),
            79..87 => self.connection_breaks(device),
            87..91 => self.device_crashes(device),
            91..94 => self.server_crashes(),
            94..97 => {
                let jump = self.clock_error();
                self.devices[device].offset = self.devices[device].offset.saturating_add(jump);
            }
            97..98 => self.server_offset = self.clock_error() % 60_000,
            _ => self.somebody_goes_offline(device),
        }
    }

    fn conversations_of(&self, device: usize) -> Vec<ConversationId> {
        let client = self.devices[device].client.as_ref();
        client
            .into_iter()
            .flat_map(|client| client.conversations())
            .map(|view| view.conversation)
            .collect()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = self.chance.below(from.len() as u64) as usize;
        from.get(index).copied()
    }

    fn somebody(&mut self) -> UserId {
        let device = self.chance.below(self.devices.len() as u64) as usize;
        self.devices[device].user
    }

    fn somebody_writes(&mut self, device: usize) {
        let known = self.conversations_of(device);
        let other = self.somebody();
        let me = self.devices[device].user;
        let (to, conversation) = match self.pick(&known).filter(|_| self.chance.percent(80)) {
            Some(id) => (Recipient::Conversation(id), id),
            None if other == me => return,
            None => (
                Recipient::User(other),
                tidings_core::id::direct_id(me, other),
            ),
        };
        for _ in 0..self.chance.between(1, 6) {
            let text = format!("message {}", self.chance.number());
            let content = Content {
                text,
                ..Content::default()
            };
            let mut sent = None;
            self.with_client(device, |client, now| {
                sent = Some(client.send_message(now, to, content, None))
            });
            if let Some(client_id) = sent {
                self.devices[device].note_wish(conversation, client_id);
            }
        }
    }

    /// Edits, deletes or reacts to a message on the screen.
    fn somebody_alters(&mut self, device: usize) {
        let me = self.devices[device].user;
        let mut seen: Vec<(ConversationId, u64, bool)> = Vec::new();
        for (conversation, items) in &self.devices[device].timelines {
            for item in items
                .iter()
                .filter(|item| matches!(item.body, ItemBody::Message(_)))
            {
                seen.extend(item.seq.map(|seq| (*conversation, seq, item.author == me)));
            }
        }
        let Some((conversation, seq, mine)) = self.pick(&seen) else {
            return;
        };
        let (what, text) = (
            self.chance.below(4),
            format!("edited {}", self.chance.number()),
        );
        let emoji = if self.chance.percent(50) {
            "👍"
        } else {
            "🎉"
        };
        let on = self.chance.percent(70);
        self.with_client(device, |client, now| {
            match what {
                0 if mine => client.edit(
                    now,
                    conversation,
                    seq,
                    Content {
                        text,
                        ..Content::default()
                    },
                ),
                1 if mine => client.delete(now, conversation, seq),
                _ => client.react(now, conversation, seq, emoji, on),
            };
        });
    }

    fn somebody_reads(&mut self, device: usize) {
        let known = self.conversations_of(device);
        let Some(id) = self.pick(&known) else { return };
        let back = self.chance.below(4);
        self.with_client(device, |client, now| {
            let position = client
                .conversation(id)
                .map_or(0, |details| details.position);
            client.mark_read(now, id, position.saturating_sub(back));
            client.typing(now, id, true);
        });
    }

    fn somebody_looks(&mut self, device: usize) {
        let known = self.conversations_of(device);
        let Some(id) = self.pick(&known) else { return };
        let what = self.chance.below(6);
        let seq = self.chance.between(1, 60);
        self.with_client(device, |client, now| match what {
            0 => client.open_around(now, id, seq),
            1 => client.load_older(now, id),
            2 => client.load_newer(now, id),
            3 => client.close(now, id),
            _ => client.open(now, id),
        });
        // Which timelines are open is the client's to say.
        let device = &mut self.devices[device];
        if let Some(client) = &device.client {
            device
                .timelines
                .retain(|id, _| client.timeline(*id).is_some());
        }
    }

    fn somebody_changes_a_group(&mut self, device: usize) {
        let known = self.conversations_of(device);
        let (other, chosen) = (self.somebody(), self.pick(&known));
        let what = self.chance.below(8);
        let me = self.devices[device].user;
        let Some(id) = chosen.filter(|_| what > 1) else {
            let retention = if self.chance.percent(30) {
                Retention::UntilDelivered
            } else {
                Retention::Forever
            };
            let vanish_after_ms = Some(30_000).filter(|_| self.chance.percent(15));
            let share_history = self.chance.percent(50);
            let settings = Settings {
                name: "group".to_owned(),
                retention,
                vanish_after_ms,
                share_history,
                ..Settings::default()
            };
            let mut users = vec![self.somebody(), self.somebody()];
            users.retain(|user| *user != me);
            users.sort_unstable();
            users.dedup();
            return self.with_client(device, |client, now| {
                client.create_group(now, users, settings);
            });
        };
        let change = match self.chance.below(2) {
            0 => SettingsChange {
                name: Some(format!("group {}", self.chance.below(100))),
                ..SettingsChange::default()
            },
            _ => SettingsChange {
                share_history: Some(self.chance.percent(50)),
                ..SettingsChange::default()
            },
        };
        self.with_client(device, |client, now| {
            match what {
                2 | 3 => client.invite(now, id, vec![other]),
                4 => client.remove(now, id, other),
                5 => client.leave(now, id),
                6 => client.set_role(now, id, other, Role::Admin),
                _ => client.configure(now, id, change),
            };
        });
    }

    fn somebody_cancels(&mut self, device: usize) {
        let wished: Vec<ClientId> = self.devices[device]
            .wished
            .values()
            .flat_map(|wished| wished.iter().rev().take(2))
            .copied()
            .collect();
        let Some(client_id) = self.pick(&wished) else {
            return;
        };
        let mut cancelled = false;
        self.with_client(device, |client, now| {
            cancelled = client.cancel(now, client_id).is_ok()
        });
        if cancelled {
            for wished in self.devices[device].wished.values_mut() {
                wished.retain(|other| *other != client_id);
            }
        }
    }

    fn connection_breaks(&mut self, device: usize) {
        let Some(connection) = self.devices[device].connection else {
            return;
        };
        self.cut(connection);
        // Sometimes nobody notices until an answer is missing.
        if self.chance.percent(80) {
            let wait = self.chance.below(500);
            self.after(wait, Event::ClosedAtClient(connection));
        }
    }

    fn device_crashes(&mut self, device: usize) {
        if let Some(connection) = self.devices[device].connection {
            self.cut(connection);
        }
        self.devices[device].crash();
        self.trace(|| format!("{} crashes", self.devices[device].id));
        let wait = self.chance.below(5_000);
        self.after(wait, Event::StartDevice(device));
    }

    fn server_crashes(&mut self) {
        if !self.server_up {
            return;
        }
        self.server_up = false;
        self.server_run += 1;
        self.trace(|| "the server crashes".to_owned());
        if self.plan.roll_backs && self.chance.percent(50) {
            let cut = self.chance.between(1, 100) as usize;
            self.server.crash();
            self.server
                .roll_back(|_, length| length - length.min(cut) / 10);
            self.rolled_back = true;
        } else {
            self.server.crash();
        }
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        for connection in connections {
            self.connections.remove(&connection);
            let wait = self.chance.below(200);
            self.after(wait, Event::ClosedAtClient(connection));
        }
        let wait = self.chance.below(3_000);
        self.after(wait, Event::StartServer);
    }

    fn somebody_goes_offline(&mut self, device: usize) {
        let offline = !self.devices[device].offline;
        self.devices[device].offline = offline;
        self.with_client(device, |client, now| {
            if offline {
                client.go_offline(now);
            } else {
                client.reconnect_now(now);
            }
        });
    }
}
