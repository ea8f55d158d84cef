//! A device: keeps its memory, connects for ever, and does what any client must.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_core::{ClientId, ConversationId, DeviceId, Time, UserId};
use tidings_protocol::entry::Content;
use tidings_protocol::send::{Action, MessageAction};
use tidings_protocol::session::{Hello, Ping};
use tidings_protocol::{ClientFrame, Code, ServerFrame};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::memory::{Memory, Pending, Place, Settled};
use super::sync::{Sync, conversation_of};
use super::{Connection, Lost, PATIENCE, Way, hello};
use crate::chance::Chance;

/// How often a device compares digests.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// A connection without an answer for so long is given up.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// One device of a user. Dropped, it disconnects.
#[derive(Debug)]
pub struct Device {
    /// What to call it in messages of failure.
    pub name: String,
    /// Whose.
    pub user: UserId,
    /// Its session token.
    pub token: String,
    /// Its id.
    pub device: DeviceId,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    chance: Mutex<Chance>,
    way: Way,
    port: Mutex<u16>,
    online: Mutex<bool>,
    token: String,
    /// Wakes the device.
    wake: Notify,
    /// Wakes who waits for it.
    moved: Notify,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_online(&self) -> bool {
        *self.online.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who somebody is, and by which token.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub user: UserId,
    /// With which device.
    pub device: DeviceId,
    /// The session token.
    pub token: String,
}

impl Device {
    /// A device that connects at once and whenever it is cut.
    #[must_use]
    pub fn start(name: &str, way: Way, port: u16, login: &Login, seed: u64) -> Device {
        let device = Device::offline(name, way, port, login, seed);
        device.set_online(true);
        device
    }

    /// A device that does not connect yet.
    #[must_use]
    pub fn offline(name: &str, way: Way, port: u16, login: &Login, seed: u64) -> Device {
        let shared = Arc::new(Shared {
            memory: Mutex::new(Memory::new(login.user, login.device)),
            chance: Mutex::new(Chance::new(seed)),
            way,
            port: Mutex::new(port),
            online: Mutex::new(false),
            token: login.token.clone(),
            wake: Notify::new(),
            moved: Notify::new(),
        });
        Device {
            name: name.to_owned(),
            user: login.user,
            token: login.token.clone(),
            device: login.device,
            task: tokio::spawn(live(shared.clone())),
            shared,
        }
    }

    /// Connects, or cuts the connection and stays away.
    pub fn set_online(&self, online: bool) {
        *self.shared.online.lock().unwrap() = online;
        self.shared.wake.notify_one();
    }

    /// Where it connects.
    #[must_use]
    pub fn port(&self) -> u16 {
        *self.shared.port.lock().unwrap()
    }

    /// Connects elsewhere from the next connection on.
    pub fn set_port(&self, port: u16) {
        *self.shared.port.lock().unwrap() = port;
    }

    /// What it has.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory()
    }

    /// Loses what is pushed from now on, as if the wire had; or no longer.
    pub fn lose_events(&self, loses: bool) {
        self.shared.memory().loses_events = loses;
    }

    /// Puts something into the outbox.
    pub fn send(&self, place: Place, action: Action) -> ClientId {
        let client_id = self.new_client_id();
        let conversation = conversation_of(self.user, place);
        let mut memory = self.shared.memory();
        memory.outbox.push_back(Pending {
            client_id,
            place,
            conversation,
            after: None,
            action,
            tried: false,
            in_flight: false,
            request: 0,
            not_before: None,
            catch_up: false,
        });
        memory.sent.push((client_id, conversation));
        drop(memory);
        self.shared.wake.notify_one();
        client_id
    }

    /// A client id of this device's own.
    #[must_use]
    pub fn new_client_id(&self) -> ClientId {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let millis = u64::try_from(since.as_millis()).unwrap();
        ClientId::new(Time(millis), self.shared.chance.lock().unwrap().bytes())
    }

    /// Puts a message into the outbox.
    pub fn say(&self, place: Place, text: &str) -> ClientId {
        self.send(place, message(text))
    }

    /// Shows everything up to a seq.
    pub fn read(&self, conversation: ConversationId, seq: u64) {
        self.shared.memory().read_wanted.insert(conversation, seq);
        self.shared.wake.notify_one();
    }

    /// Shows everything that comes.
    pub fn read_all(&self) {
        self.shared.memory().reads_all = true;
        self.shared.wake.notify_one();
    }

    /// Waits until something is so.
    pub async fn wait(&self, what: &str, mut is_so: impl FnMut(&Memory) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let moved = self.shared.moved.notified();
            {
                let memory = self.shared.memory();
                assert!(
                    memory.violations.is_empty(),
                    "{}: {:#?}",
                    self.name,
                    memory.violations
                );
                if is_so(&memory) {
                    return;
                }
                assert!(
                    Instant::now() < until,
                    "{} waits for: {what}\n{}",
                    self.name,
                    describe(&memory)
                );
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), moved).await;
        }
    }

    /// Waits until something that was sent is an entry, and answers its seq.
    pub async fn sent(&self, client_id: ClientId) -> u64 {
        self.wait("an answer to a send", |memory| {
            memory.settled.contains_key(&client_id)
        })
        .await;
        match self.memory().settled.get(&client_id) {
            Some(Settled::Sent { seq, .. }) => *seq,
            other => panic!("{}: {client_id} {other:?}", self.name),
        }
    }

    /// Waits until something that was sent is refused, and answers why.
    pub async fn refused(&self, client_id: ClientId) -> Code {
        self.wait("an answer to a send", |memory| {
            memory.settled.contains_key(&client_id)
        })
        .await;
        match self.memory().settled.get(&client_id) {
            Some(Settled::Refused(problem)) => problem.code,
            other => panic!("{}: {client_id} {other:?}", self.name),
        }
    }

    /// Waits until a message with this text is there, and answers its seq.
    pub async fn hears(&self, conversation: ConversationId, text: &str) -> u64 {
        let find = |memory: &Memory| {
            let log = memory.logs.get(&conversation)?;
            let found = log.entries.values().find(|entry| {
                entry
                    .content
                    .as_ref()
                    .is_some_and(|content| content.text == text)
            });
            found.map(|entry| entry.seq)
        };
        self.wait(&format!("the message {text:?}"), |memory| {
            find(memory).is_some()
        })
        .await;
        find(&self.memory()).unwrap_or(0)
    }

    /// Waits until the ticks of an entry tell that somebody has received it.
    pub async fn sees_delivered(&self, conversation: ConversationId, by: UserId, seq: u64) {
        self.wait(&format!("two ticks at {seq}"), |memory| {
            memory.ticks(conversation, by).0 >= seq
        })
        .await;
    }

    /// Waits until the ticks of an entry tell that somebody has read it.
    pub async fn sees_shown(&self, conversation: ConversationId, by: UserId, seq: u64) {
        self.wait(&format!("blue ticks at {seq}"), |memory| {
            memory.ticks(conversation, by).1 >= seq
        })
        .await;
    }

    /// Waits until nothing is under way and the digest agrees.
    pub async fn level(&self) {
        self.shared.memory().digest_agrees = false;
        self.wait("level", Memory::is_level).await;
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The action of saying something.
#[must_use]
pub fn message(text: &str) -> Action {
    Action::Message(MessageAction {
        content: content(text),
        ..MessageAction::default()
    })
}

/// Text.
#[must_use]
pub fn content(text: &str) -> Content {
    Content {
        text: text.to_owned(),
        ..Content::default()
    }
}

fn describe(memory: &Memory) -> String {
    let mut text = format!(
        "connections {} (lost: {:?}), outbox {:?}, digest agrees {} (differed {} times), problems {:?}\n",
        memory.connections,
        memory.lost,
        memory.outbox,
        memory.digest_agrees,
        memory.digest_differed,
        memory.problems.iter().rev().take(5).collect::<Vec<_>>()
    );
    for (id, log) in &memory.logs {
        text.push_str(&format!(
            "{id}: level {} of {}, acknowledged {}, entries {}, read {}, out {}, stale {}, told {:?}\n",
            log.level,
            log.head,
            log.acknowledged,
            log.entries.len(),
            log.read.seq,
            log.out,
            log.stale,
            log.told
        ));
    }
    text
}

async fn live(shared: Arc<Shared>) {
    loop {
        if !shared.is_online() {
            shared.wake.notified().await;
            continue;
        }
        let lost = connect(&shared).await;
        let ends = take_loss(&mut shared.memory(), &lost);
        shared.moved.notify_waiters();
        if ends {
            return;
        }
        let pause = 5 + shared.chance.lock().unwrap().below(20);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

fn is_push(frame: &ServerFrame) -> bool {
    matches!(
        frame,
        ServerFrame::Entries(_)
            | ServerFrame::Marks(_)
            | ServerFrame::Conversation(_)
            | ServerFrame::Messages(_)
            | ServerFrame::Steps(_)
    )
}

/// Takes note that the connection is lost. Answers whether it is for good.
fn take_loss(memory: &mut Memory, lost: &Lost) -> bool {
    memory.unanswered();
    match lost {
        Lost::Refused(problem) if problem.code == Code::Unauthorized => {
            memory.logged_out = Some(problem.code);
        }
        Lost::Bye(code @ (Code::Revoked | Code::Unauthorized)) => {
            memory.logged_out = Some(*code);
        }
        _ => {}
    }
    memory.lost = Some(lost.clone());
    memory.logged_out.is_some()
}

async fn connect(shared: &Shared) -> Lost {
    let hello = Hello {
        marks: shared.memory().marks_to_repeat(),
        short: shared.way == Way::Short,
        ..hello()
    };
    let port = *shared.port.lock().unwrap();
    let opening = Connection::open(shared.way, port, &shared.token, hello);
    let mut connection = match tokio::time::timeout(SILENT_MAX, opening).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(lost)) => return lost,
        Err(_) => return Lost::Cut("no welcome came".to_owned()),
    };
    let mut sync = {
        let mut memory = shared.memory();
        memory.connections += 1;
        if (connection.welcome.user, connection.welcome.device) != (memory.user, memory.device) {
            memory.violation(format!("welcomed as {:?}", connection.welcome));
        }
        if connection.welcome.short != (shared.way == Way::Short) {
            memory.violation(format!("short forms: {:?}", connection.welcome));
        }
        Sync::begin(&mut memory, &connection.welcome)
    };
    let mut heartbeat = Instant::now() + HEARTBEAT;
    let mut last_frame = Instant::now();
    loop {
        if !shared.is_online() {
            return Lost::Cut("went offline".to_owned());
        }
        if let Err(lost) = ask_all(shared, &mut connection, &mut sync).await {
            return lost;
        }
        shared.moved.notify_waiters();
        if sync.ends {
            return Lost::Cut("begins anew".to_owned());
        }
        let wakes_at = Sync::wakes_at(&shared.memory()).map(Instant::from_std);
        let until = wakes_at.map_or(heartbeat, |wakes_at| {
            // One that is past waits for something else than time.
            if wakes_at > Instant::now() {
                heartbeat.min(wakes_at)
            } else {
                heartbeat
            }
        });
        tokio::select! {
            frame = connection.next() => match frame {
                Ok(frame) => {
                    last_frame = Instant::now();
                    let mut memory = shared.memory();
                    if memory.loses_events && is_push(&frame) {
                        memory.lost_events += 1;
                    } else {
                        sync.handle(&mut memory, frame);
                    }
                }
                Err(lost) => return lost,
            },
            () = shared.wake.notified() => {}
            () = sleep_until(until) => {}
        }
        if last_frame.elapsed() > SILENT_MAX {
            return Lost::Cut("silent for too long".to_owned());
        }
        if Instant::now() >= heartbeat {
            heartbeat = Instant::now() + HEARTBEAT;
            let ping = ClientFrame::Ping(Ping { id: 0 });
            if let Err(lost) = post(shared, &mut connection, &mut sync, ping).await {
                return lost;
            }
        }
    }
}

async fn ask_all(
    shared: &Shared,
    connection: &mut Connection,
    sync: &mut Sync,
) -> Result<(), Lost> {
    loop {
        let next = sync.next_request(&mut shared.memory());
        match next {
            Some(frame) => post(shared, connection, sync, frame).await?,
            None => return Ok(()),
        }
    }
}

async fn post(
    shared: &Shared,
    connection: &mut Connection,
    sync: &mut Sync,
    frame: ClientFrame,
) -> Result<(), Lost> {
    let id = connection.post(frame.clone()).await?;
    sync.was_asked(&mut shared.memory(), id, &frame);
    Ok(())
}
