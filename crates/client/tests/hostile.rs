//! Whatever a server sends, in whatever order, the client does not panic, does not loop, and starts again
//! from what it stored.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidings_client::{Client, Config, Limits, Output, Recipient, Row, Snapshot, StoreOp, Table};
use tidings_core::{ClientId, ConversationId, DeviceId, Generation, Kind, Time, UserId, digest};
use tidings_protocol::entry::{
    self, Content, ConversationKind, Entry, Reaction, Retention, Role, Settings, SettingsChange,
};
use tidings_protocol::mark::{MarkStep, Marks, MemberMarks, Ticks};
use tidings_protocol::presence::{Presence, Profile, TypingEvent, Users};
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::send::Sent;
use tidings_protocol::session::{Bye, Done, Pong, Welcome};
use tidings_protocol::short::{Handle, Message, Messages, Said, ShortStep, ShortTime, Steps};
use tidings_protocol::sync::{
    Alteration, Conversation, ConversationFrame, Entries, Gone, HistoryPage, InboxPage, Member,
    ReactionSum, ReadMark,
};
use tidings_protocol::{Code, Problem, ServerFrame};

const ME: UserId = UserId([1; 16]);
const DEVICE: DeviceId = DeviceId([9; 16]);

/// Choices made from a seed.
struct Choice(u64);

impl Choice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn seq(&mut self) -> u64 {
        match self.below(24) {
            0 => u64::MAX,
            1 => (1 << 53) - 1,
            2 => 0,
            small => small + self.below(8),
        }
    }

    fn id(&mut self) -> u64 {
        self.below(40)
    }

    fn user(&mut self) -> UserId {
        UserId([1 + self.below(3) as u8; 16])
    }

    fn conversation(&mut self) -> ConversationId {
        let other = UserId([2; 16]);
        [
            ConversationId([5; 16]),
            ConversationId([6; 16]),
            tidings_core::id::direct_id(ME, other),
        ][self.below(3) as usize]
    }

    fn generation(&mut self) -> Generation {
        Generation(
            [if self.below(10) == 0 {
                self.below(2) as u8
            } else {
                7
            }; 16],
        )
    }

    fn time(&mut self) -> Time {
        Time([0, 1_000, 5_000, u64::MAX][self.below(4) as usize])
    }

    fn list<T>(&mut self, make: impl Fn(&mut Choice) -> T) -> Vec<T> {
        (0..self.below(5)).map(|_| make(self)).collect()
    }

    fn handle(&mut self) -> Handle {
        Handle(digest::handle(self.conversation(), self.generation()))
    }

    fn user_handle(&mut self) -> Handle {
        Handle(digest::user_handle(self.user()))
    }

    fn content(&mut self) -> Option<Content> {
        self.flag().then(|| Content {
            text: "hello".to_owned(),
            ..Content::default()
        })
    }

    fn entry(&mut self) -> Entry {
        let kind = Kind::from_number(self.below(14) as u8);
        Entry {
            seq: self.seq(),
            kind: entry::Kind(kind),
            author: self.user(),
            device: self.flag().then_some(DEVICE),
            at: self.time(),
            ordinal: self.seq(),
            counts: self.flag(),
            client_id: self.flag().then_some(ClientId([self.below(3) as u8; 16])),
            target: self.flag().then(|| self.seq()),
            lane: 0,
            expires: self.flag().then(|| self.time()),
            epoch: 0,
            rules: self.below(3) as u8,
            content: self.content(),
            reaction: self.flag().then(|| Reaction {
                emoji: "x".to_owned(),
                on: self.flag(),
            }),
            create: None,
            join: None,
            user: self.flag().then(|| self.user()),
            role: self.flag().then_some(Role::Admin),
            settings: self.flag().then(Box::<SettingsChange>::default),
            commit: None,
        }
    }

    fn read_mark(&mut self) -> ReadMark {
        ReadMark {
            seq: self.seq(),
            ordinal: self.seq(),
            own: self.seq(),
        }
    }

    fn member(&mut self) -> Member {
        let marks = MemberMarks {
            delivered: self.seq(),
            shown: self.seq(),
        };
        Member {
            user: self.user(),
            role: Role::Member,
            joined: self.seq(),
            marks,
        }
    }

    fn summary(&mut self) -> Conversation {
        let retention = if self.flag() {
            Retention::UntilDelivered
        } else {
            Retention::Forever
        };
        Conversation {
            conversation: self.conversation(),
            kind: if self.flag() {
                ConversationKind::Direct
            } else {
                ConversationKind::Group
            },
            generation: self.generation(),
            head: self.seq(),
            ordinal: self.seq(),
            at: self.time(),
            trimmed: self.seq(),
            from: self.seq(),
            membership_seq: self.seq(),
            epoch: self.seq(),
            settings: Settings {
                retention,
                ..Settings::default()
            },
            member_count: self.below(40) as u32,
            members: self.list(Choice::member),
            role: Role::Member,
            read: self.read_mark(),
            delivered: self.seq(),
            device: self.seq(),
            joined: self.read_mark(),
            own: self.seq(),
            unread: self.seq(),
            last: self.flag().then(|| self.entry()),
        }
    }

    fn alteration(&mut self) -> Alteration {
        let sum = |choice: &mut Choice| ReactionSum {
            emoji: "x".to_owned(),
            count: choice.seq(),
            mine: choice.flag(),
        };
        Alteration {
            target: self.seq(),
            edit: self.flag().then(|| Box::new(self.entry())),
            deleted: self.flag().then(|| self.seq()),
            reactions: self.list(sum),
        }
    }

    fn problem(&mut self) -> Problem {
        let code = Code::ALL[self.below(Code::ALL.len() as u64) as usize];
        Problem {
            retry_after_ms: self.flag().then(|| self.seq()),
            ..Problem::new(code)
        }
    }

    fn frame(&mut self) -> ServerFrame {
        let id = self.id();
        match self.below(24) {
            0 => ServerFrame::Welcome(Welcome {
                id,
                user: ME,
                device: DEVICE,
                at: self.time(),
                heartbeat_ms: self.seq(),
                digest: self.seq(),
                rules: 1,
                server: String::new(),
                short: self.flag(),
            }),
            1 => ServerFrame::Pong(Pong {
                id,
                digest: self.seq(),
            }),
            2 => ServerFrame::Sent(Sent {
                id,
                client_id: ClientId([self.below(3) as u8; 16]),
                conversation: self.conversation(),
                seq: self.seq(),
                at: self.time(),
                generation: self.generation(),
            }),
            3 => ServerFrame::Done(Done { id }),
            4 => ServerFrame::Inbox(InboxPage {
                id,
                conversations: self.list(Choice::summary),
                next: self.flag().then(String::new),
            }),
            5 | 6 => ServerFrame::Conversation(Box::new(ConversationFrame {
                id: self.flag().then_some(id),
                conversation: self.summary(),
            })),
            7..10 => ServerFrame::History(HistoryPage {
                id,
                conversation: self.conversation(),
                generation: self.generation(),
                from: self.seq(),
                to: self.seq(),
                entries: self.list(Choice::entry),
                alterations: self.list(Choice::alteration),
                head: self.seq(),
                trimmed: self.seq(),
                more: self.flag(),
            }),
            10 => ServerFrame::Users(Users {
                id,
                users: self.list(|choice| Profile {
                    user: choice.user(),
                    username: "u".to_owned(),
                    display_name: String::new(),
                    avatar: String::new(),
                }),
            }),
            11 | 12 => ServerFrame::Error(ErrorFrame {
                id: self.flag().then_some(id),
                problem: self.problem(),
            }),
            13 | 14 => ServerFrame::Entries(Entries {
                conversation: self.conversation(),
                from: self.seq(),
                to: self.seq(),
                membership_seq: self.seq(),
                entries: self.list(Choice::entry),
            }),
            15 => ServerFrame::Marks(Marks {
                conversation: self.conversation(),
                marks: self.list(|choice| MarkStep {
                    user: choice.user(),
                    at: choice.time(),
                    delivered: choice.flag().then(|| choice.seq()),
                    shown: choice.flag().then(|| choice.seq()),
                    read: choice.flag().then(|| choice.read_mark()),
                }),
            }),
            16 => ServerFrame::Ticks(Ticks {
                conversation: self.conversation(),
                delivered: self.seq(),
                shown: self.seq(),
            }),
            17 => ServerFrame::Gone(Gone {
                conversation: self.conversation(),
                seq: self.seq(),
            }),
            18 => ServerFrame::Typing(TypingEvent {
                conversation: self.conversation(),
                user: self.user(),
                on: self.flag(),
            }),
            19 => ServerFrame::Said(Said {
                id,
                seq: self.seq(),
                at: ShortTime(self.seq() as u32),
                ordinal: self.flag().then(|| self.seq()),
            }),
            20 | 21 => ServerFrame::Messages(Messages {
                conversation: self.handle(),
                from: self.seq(),
                ordinal: self.seq(),
                messages: self.list(|choice| Message {
                    author: choice.flag().then(|| choice.user_handle()),
                    at: ShortTime(choice.seq() as u32),
                    text: "hello".to_owned(),
                    reply_to: choice.flag().then(|| choice.seq()),
                    user: choice.flag().then(|| choice.user()),
                }),
            }),
            22 => ServerFrame::Steps(Steps {
                conversation: self.handle(),
                steps: self.list(|choice| ShortStep {
                    user: choice.user_handle(),
                    at: ShortTime(choice.seq() as u32),
                    delivered: choice.flag().then(|| choice.seq()),
                    shown: choice.flag().then(|| choice.seq()),
                }),
            }),
            _ if self.below(8) == 0 => ServerFrame::Bye(Bye {
                reason: Code::Draining,
                reconnect_after_ms: self.flag().then(|| self.seq()),
            }),
            _ => ServerFrame::Presence(Presence {
                user: self.user(),
                online: self.flag(),
                last_seen: None,
            }),
        }
    }
}

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn start(rows: &Rows, seed: u64, now: Time) -> Client {
    let rows = rows.iter().filter(|((table, _), _)| table.is_in_snapshot());
    let rows = rows.map(|((table, key), value)| {
        (
            *table,
            Row {
                key: key.clone(),
                value: value.clone(),
            },
        )
    });
    let config = Config {
        user: ME,
        device: DEVICE,
        token: None,
        client: String::new(),
        seed,
        limits: Limits {
            timeline_items_max: 25,
            load_page_entries: 8,
            ..Limits::default()
        },
    };
    Client::new(
        config,
        Snapshot {
            rows: rows.collect(),
        },
        now,
    )
}

/// Does what the client asks for; the newest request ids are found by counting on.
fn drive(client: &mut Client, rows: &mut Rows, now: Time) {
    for turn in 0.. {
        assert!(turn < 10_000, "the client never comes to rest");
        let Some(output) = client.poll_output() else {
            return;
        };
        match output {
            Output::Connect => client.handle_connected(now),
            Output::Store(ops, token) => {
                for op in ops {
                    match op {
                        StoreOp::Put { table, key, value } => {
                            rows.insert((table, key), value);
                        }
                        StoreOp::Delete { table, key } => {
                            rows.remove(&(table, key));
                        }
                        StoreOp::DeletePrefix { table, prefix } => {
                            rows.retain(|(of, key), _| *of != table || !key.starts_with(&prefix));
                        }
                    }
                }
                client.handle_stored(now, token);
            }
            Output::Load(reads, token) => {
                let loaded = reads
                    .iter()
                    .map(|read| {
                        assert!(read.from <= read.to);
                        let range = (read.table, read.from.clone())..(read.table, read.to.clone());
                        let range = rows.range(range).take(read.limit);
                        range
                            .map(|((_, key), value)| Row {
                                key: key.clone(),
                                value: value.clone(),
                            })
                            .collect()
                    })
                    .collect();
                client.handle_loaded(now, token, loaded);
            }
            Output::Disconnect | Output::Send(_) | Output::Changed(_) => {}
        }
    }
}

fn wish(client: &mut Client, choice: &mut Choice, now: Time) {
    let (id, seq) = (choice.conversation(), choice.seq());
    let content = Content {
        text: "hi".to_owned(),
        ..Content::default()
    };
    match choice.below(14) {
        0 => client.open(now, id),
        1 => client.open_around(now, id, seq),
        2 => client.load_older(now, id),
        3 => client.load_newer(now, id),
        4 => client.close(now, id),
        5 => client.mark_read(now, id, seq),
        6 => client.typing(now, id, choice.flag()),
        7 => client.reconnect_now(now),
        8 => drop(client.react(now, id, seq, "x", true)),
        9 => drop(client.edit(now, id, seq, content)),
        10 => drop(client.delete(now, id, seq)),
        11 => drop(client.leave(now, id)),
        12 => client.watch(now, vec![choice.user()]),
        _ => {
            client.send_message(
                now,
                Recipient::User(UserId([2; 16])),
                content,
                choice.flag().then_some(seq),
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn any_frames_in_any_order(seed in any::<u64>()) {
        let mut choice = Choice(seed);
        let mut rows = Rows::new();
        let mut now = Time(10_000);
        let mut client = start(&rows, seed, now);
        for step in 0..200 {
            now = match choice.below(10) {
                0 => Time(now.0.saturating_sub(choice.below(100_000))),
                1 => now.plus_millis(choice.below(100_000)),
                _ => now.plus_millis(choice.below(100)),
            };
            match choice.below(20) {
                0 => client.handle_disconnected(now),
                1 => client.handle_timeout(now),
                2..5 => wish(&mut client, &mut choice, now),
                5 if step % 3 == 0 => client = start(&rows, seed + step, now),
                _ => client.handle_frame(now, choice.frame()),
            }
            drive(&mut client, &mut rows, now);
            let _ = client.poll_timeout();
        }
    }
}
