//! The hot path without sockets: messages in direct conversations, each received and read, as frames of bytes. To be run
//! under callgrind, which counts what each thread does (`scripts/hot-path`).
//!
//! In: what to do (`all`, or `client` for what a client does of it alone), how many messages, of how many pairs, and how
//! many of those talk at a time: many pairs, few at a time, is what caches see of a server. The store is the embedded one,
//! in a temporary directory; its late marks are written when this program says so, so that a count does not hang on the
//! speed of a machine.

#![allow(
    clippy::unwrap_used,
    reason = "a measuring program may stop at any failure"
)]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_core::id::direct_id;
use tidings_core::{ClientId, ConversationId, Generation, Time, UserId, digest};
use tidings_protocol::account::SignUp;
use tidings_protocol::entry::Content;
use tidings_protocol::mark::{MarkUpdate, RaiseMarks};
use tidings_protocol::send::{Action, MessageAction, Send};
use tidings_protocol::short::{Handle, Say, Seen};
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tidings_server::chat::{Chat, Reply};
use tidings_server::clock::Clock;
use tidings_server::config::{ChatSettings, UsersSettings};
use tidings_server::hub::Hub;
use tidings_server::metrics::Metrics;
use tidings_server::session::{Caller, Drained, Manner, QueueLimits, Session};
use tidings_server::users::Users;
use tidings_store::Store;
use tidings_store_embedded::{EmbeddedStore, Settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pairs that talk, unless told otherwise; each says something in each round.
const PAIRS: usize = 16;
/// Rounds from one writing of late marks to the next.
const FLUSH_ROUNDS: u64 = 4;
const TEXT_BYTES: usize = 100;
const DRAIN_BYTES: usize = 64 * 1024;

/// Somebody with one device, and the session that it is connected by.
struct Person {
    caller: Caller,
    session: Arc<Session>,
}

struct Pair {
    talk: ConversationId,
    people: [Person; 2],
    /// Its first message was sent, so that both sides know its generation, and by that its handle.
    is_begun: bool,
    handle: Handle,
}

struct Stage {
    store: Arc<EmbeddedStore>,
    chat: Arc<Chat>,
    clock: Arc<AtomicU64>,
    pairs: Vec<Pair>,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "all".to_owned());
    let mut number = |default: usize| {
        let argument = arguments.next();
        argument.map_or(default, |number| number.parse().unwrap())
    };
    let messages = number(1_600);
    let pairs = number(PAIRS);
    let at_a_time = number(pairs);
    // Outlives the tasks that hold the store.
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new(folder.path(), pairs).await;
        for round in 0..(messages / pairs) as u64 {
            let frames = stage.frames_of(round);
            if what == "all" {
                stage.play(&frames, round, at_a_time).await;
            }
        }
    });
}

impl Stage {
    async fn new(folder: &std::path::Path, pairs: usize) -> Stage {
        let late_within = Duration::from_secs(1_000_000);
        let settings = Settings {
            late_within,
            ..Settings::default()
        };
        let store = Arc::new(EmbeddedStore::open(folder, settings).unwrap());
        let shared: Arc<dyn Store> = store.clone();
        let limits = QueueLimits {
            frames_max: 1_000,
            bytes_max: 1 << 20,
        };
        let hub = Arc::new(Hub::new(limits, 4));
        let millis = Arc::new(AtomicU64::new(1_795_262_400_000));
        let clock = Clock::Manual(millis.clone());
        let metrics = Arc::new(Metrics::default());
        let of_users = UsersSettings {
            password_memory_kib: 8,
            password_passes: 1,
            address_sign_up_interval_ms: 0,
            ..UsersSettings::default()
        };
        let users = Users::new(
            shared.clone(),
            hub.clone(),
            clock.clone(),
            of_users,
            Vec::new(),
            metrics.clone(),
        );
        let of_chat = ChatSettings::default();
        let chat = Chat::new(shared, hub.clone(), users.clone(), clock, of_chat, metrics);
        let mut stage = Stage {
            store,
            chat,
            clock: millis,
            pairs: Vec::new(),
        };
        for number in 0..pairs {
            let ada = stage.person(&hub, &users, &format!("ada-{number}")).await;
            let ben = stage.person(&hub, &users, &format!("ben-{number}")).await;
            stage.pairs.push(Pair {
                talk: direct_id(ada.caller.user, ben.caller.user),
                people: [ada, ben],
                is_begun: false,
                handle: Handle(0),
            });
        }
        stage
    }

    async fn person(&self, hub: &Arc<Hub>, users: &Arc<Users>, username: &str) -> Person {
        let sign_up = SignUp {
            username: username.to_owned(),
            password: "correct horse".to_owned(),
            display_name: String::new(),
            device_name: "first".to_owned(),
        };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let logged_in = users.sign_up(sign_up, address).await.unwrap();
        let caller = Caller {
            user: logged_in.profile.user,
            device: logged_in.device,
        };
        let manner = Manner {
            encoding: Encoding::Cbor,
            short: true,
        };
        let session = hub.open(caller, manner);
        self.chat.attach(&session, Vec::new()).await.unwrap();
        Person { caller, session }
    }

    /// The frames that the clients send in a round: of each pair a message, and what the other one acknowledges.
    fn frames_of(&mut self, round: u64) -> Vec<[Vec<u8>; 2]> {
        let now = self.clock.fetch_add(25, Ordering::Relaxed);
        let who = (round % 2) as usize;
        let frames = self.pairs.iter_mut().enumerate().map(|(number, pair)| {
            // The first entry is the conversation's beginning.
            let seq = round + 2;
            let send = send(
                number as u64,
                round,
                now,
                pair,
                pair.people[1 - who].caller.user,
            );
            [send, acknowledge(pair, seq)]
                .map(|frame| Encoding::Cbor.encode_request(&frame).unwrap())
        });
        frames.collect()
    }

    /// The frames of a round, those of so many pairs at a time.
    async fn play(&mut self, frames: &[[Vec<u8>; 2]], round: u64, at_a_time: usize) {
        for first in (0..frames.len()).step_by(at_a_time) {
            let some = first..frames.len().min(first + at_a_time);
            self.play_some(&frames[some.clone()], round, some).await;
        }
        if round.is_multiple_of(FLUSH_ROUNDS) {
            self.store.flush().await.unwrap();
        }
    }

    async fn play_some(&mut self, frames: &[[Vec<u8>; 2]], round: u64, some: Range<usize>) {
        let (who, other) = ((round % 2) as usize, (1 - round % 2) as usize);
        let pairs = &mut self.pairs[some];
        for (pair, [send, _]) in pairs.iter().zip(frames) {
            let sender = &pair.people[who];
            let (send, reply): (Send, fn(_, _) -> Reply) =
                match Encoding::Cbor.decode_request(send).unwrap() {
                    ClientFrame::Say(say) => {
                        let send = self.chat.send_of(&sender.session, say).unwrap();
                        (send, Reply::Short)
                    }
                    ClientFrame::Send(send) => (send, Reply::Session),
                    _ => continue,
                };
            let reply = reply(sender.session.clone(), send.id);
            sender.session.send_taken();
            self.chat.send(sender.caller, send, reply);
        }
        for pair in pairs.iter_mut() {
            // The tick, and with it the entry.
            let ticks = drain(&pair.people[who].session).await;
            drain(&pair.people[other].session).await;
            if let Some(generation) = generation_of(&ticks) {
                pair.is_begun = true;
                pair.handle = Handle(digest::handle(pair.talk, generation));
            }
        }
        for (pair, [_, mark]) in pairs.iter().zip(frames) {
            let reader = &pair.people[other];
            let (mark, knows) = match Encoding::Cbor.decode_request(mark).unwrap() {
                ClientFrame::Seen(seen) => self.chat.mark_of(&reader.session, seen).unwrap(),
                ClientFrame::Mark(mark) => (mark, None),
                _ => continue,
            };
            let marked = self.chat.mark(reader.caller, knows, &mark.marks);
            marked.await.unwrap();
            drain(&pair.people[who].session).await;
        }
    }
}

/// The first message of a pair in the long form, the others in the short one.
fn send(number: u64, round: u64, now: u64, pair: &Pair, to: UserId) -> ClientFrame {
    let mut chance = [0; 10];
    // As if by chance, and the same each time.
    let mixed = (round << 32 | number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    chance[2..].copy_from_slice(&mixed.to_le_bytes());
    let (id, client_id) = (round + 1, ClientId::new(Time(now), chance));
    let text = "x".repeat(TEXT_BYTES);
    if pair.is_begun {
        return ClientFrame::Say(Say {
            id,
            conversation: pair.handle,
            client_id,
            after: round + 1,
            text,
            reply_to: None,
            first: false,
        });
    }
    ClientFrame::Send(Send {
        id,
        conversation: None,
        to: Some(to),
        client_id,
        after: None,
        if_epoch: None,
        action: Action::Message(MessageAction {
            content: Content {
                text,
                ..Content::default()
            },
            ..MessageAction::default()
        }),
        first: false,
    })
}

/// Acknowledges the message with this seq, in the short form from the second on.
fn acknowledge(pair: &Pair, seq: u64) -> ClientFrame {
    let (delivered, read) = (Some(seq), Some(seq));
    if pair.is_begun {
        return ClientFrame::Seen(Seen {
            id: None,
            conversation: pair.handle,
            delivered,
            read,
            tell: false,
        });
    }
    ClientFrame::Mark(RaiseMarks {
        id: None,
        marks: vec![MarkUpdate {
            conversation: pair.talk,
            delivered,
            read,
            generation: None,
        }],
    })
}

/// Waits for what a session is sent, and takes it.
async fn drain(session: &Session) -> VecDeque<bytes::Bytes> {
    let mut frames = VecDeque::new();
    while session.drain(&mut frames, DRAIN_BYTES) == Drained::Empty {
        session.wait().await;
    }
    frames
}

/// The conversation's generation, as its first tick tells it.
fn generation_of(ticks: &VecDeque<bytes::Bytes>) -> Option<Generation> {
    ticks.iter().find_map(|bytes| {
        let frame: ServerFrame = Encoding::Cbor.decode(bytes).ok()?;
        let ServerFrame::Sent(sent) = frame else {
            return None;
        };
        Some(sent.generation)
    })
}
