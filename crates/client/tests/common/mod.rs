//! A client, its store in memory, and what it sent: it is handed the server's frames one by one.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::collections::BTreeMap;

use tidings_client::{Client, Config, Limits, Output, Row, Snapshot, StoreOp, Table};
use tidings_core::{ConversationId, DeviceId, Generation, Time, UserId};
use tidings_protocol::entry::{ConversationKind, Role, Settings};
use tidings_protocol::send::Send;
use tidings_protocol::session::Welcome;
use tidings_protocol::sync::{Conversation, InboxPage, ReadMark};
use tidings_protocol::{ClientFrame, ServerFrame};

pub(crate) const ME: UserId = UserId([1; 16]);
pub(crate) const OTHER: UserId = UserId([2; 16]);
pub(crate) const DEVICE: DeviceId = DeviceId([9; 16]);
pub(crate) const HERE: ConversationId = ConversationId([5; 16]);
pub(crate) const GENERATION: Generation = Generation([7; 16]);

pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) now: Time,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    sent: Vec<ClientFrame>,
}

impl Desk {
    /// A client that is connected and was told this inbox.
    pub(crate) fn with_inbox(conversations: Vec<Conversation>) -> Desk {
        Desk::connected(conversations, false)
    }

    /// The same over a connection that agreed on short forms.
    pub(crate) fn in_short_forms(conversations: Vec<Conversation>) -> Desk {
        Desk::connected(conversations, true)
    }

    fn connected(conversations: Vec<Conversation>, short: bool) -> Desk {
        let now = Time(10_000);
        let config = Config {
            user: ME,
            device: DEVICE,
            token: None,
            client: String::new(),
            seed: 1,
            limits: Limits::default(),
        };
        let mut desk = Desk {
            client: Client::new(config, Snapshot { rows: Vec::new() }, now),
            now,
            rows: BTreeMap::new(),
            sent: Vec::new(),
        };
        desk.work();
        for frame in desk.sent() {
            if let ClientFrame::Hello(hello) = frame {
                desk.hear(ServerFrame::Welcome(Welcome {
                    id: hello.id,
                    user: ME,
                    device: DEVICE,
                    at: now,
                    heartbeat_ms: 30_000,
                    digest: 1,
                    rules: 1,
                    server: String::new(),
                    short,
                }));
            }
        }
        for frame in desk.sent() {
            if let ClientFrame::Inbox(request) = frame {
                desk.hear(ServerFrame::Inbox(InboxPage {
                    id: request.id,
                    conversations: conversations.clone(),
                    next: None,
                }));
            }
        }
        desk
    }

    /// Hands the client a frame and does what it asks for.
    pub(crate) fn hear(&mut self, frame: ServerFrame) {
        self.client.handle_frame(self.now, frame);
        self.work();
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.client.handle_timeout(self.now);
        self.work();
    }

    /// Does what the client asks for.
    pub(crate) fn work(&mut self) {
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Connect => self.client.handle_connected(self.now),
                Output::Store(ops, token) => {
                    for op in ops {
                        self.store(op);
                    }
                    self.client.handle_stored(self.now, token);
                }
                Output::Load(reads, token) => {
                    let rows = reads.iter().map(|read| {
                        let range = (read.table, read.from.clone())..(read.table, read.to.clone());
                        let row = |((_, key), value): (&(Table, Vec<u8>), &Vec<u8>)| Row {
                            key: key.clone(),
                            value: value.clone(),
                        };
                        self.rows.range(range).take(read.limit).map(row).collect()
                    });
                    let rows = rows.collect();
                    self.client.handle_loaded(self.now, token, rows);
                }
                Output::Send(frame) => self.sent.push(frame),
                Output::Disconnect | Output::Changed(_) => {}
            }
        }
    }

    fn store(&mut self, op: StoreOp) {
        match op {
            StoreOp::Put { table, key, value } => {
                self.rows.insert((table, key), value);
            }
            StoreOp::Delete { table, key } => {
                self.rows.remove(&(table, key));
            }
            StoreOp::DeletePrefix { table, prefix } => {
                self.rows
                    .retain(|(of, key), _| *of != table || !key.starts_with(&prefix));
            }
        }
    }

    /// What the client sent since it was asked last.
    pub(crate) fn sent(&mut self) -> Vec<ClientFrame> {
        std::mem::take(&mut self.sent)
    }

    /// The sends among it.
    pub(crate) fn sends(&mut self) -> Vec<Send> {
        let send = |frame| match frame {
            ClientFrame::Send(send) => Some(send),
            _ => None,
        };
        self.sent().into_iter().filter_map(send).collect()
    }
}

/// A group of two with one entry, which this device is yet to see.
pub(crate) fn group() -> Conversation {
    Conversation {
        conversation: HERE,
        kind: ConversationKind::Group,
        generation: GENERATION,
        head: 1,
        ordinal: 0,
        at: Time(1_000),
        trimmed: 0,
        from: 1,
        membership_seq: 1,
        epoch: 0,
        settings: Settings::default(),
        member_count: 2,
        members: Vec::new(),
        role: Role::Member,
        read: ReadMark::default(),
        delivered: 0,
        device: 0,
        joined: ReadMark {
            seq: 1,
            ..ReadMark::default()
        },
        own: 0,
        unread: 0,
        last: None,
    }
}
