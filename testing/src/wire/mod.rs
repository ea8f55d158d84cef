//! A strict client written from the protocol alone, as an independent witness: it shares nothing with the
//! client library. Three ways to the server behind one [`Connection`]: WebSocket with JSON, WebSocket with
//! CBOR (also with short forms), and long polling.
//!
//! [`Connection`] speaks frames. On it stands [`device::Device`], which does what any client must: an outbox,
//! a log with covered ranges, acknowledgements, coming level, the digest. [`check`] compares devices at rest.

pub mod check;
pub mod device;
pub mod log;
pub mod memory;
mod polling;
mod short;
mod sync;
mod websocket;

pub use websocket::bare_socket;

use std::collections::VecDeque;
use std::time::Duration;

use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::session::{Hello, Welcome};
use tidings_protocol::{ClientFrame, Code, Encoding, Problem, ServerFrame};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Frames that may wait between a connection and whoever reads it.
const FRAMES_MAX: usize = 4_096;
/// How long a test waits for something that must come. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a client talks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// WebSocket, `tidings.v1.json`.
    Json,
    /// WebSocket, `tidings.v1.cbor`.
    Cbor,
    /// The same, with short forms: a [`device::Device`] agrees on them, a bare [`Connection`] does not.
    Short,
    /// `GET /v1/events` and `POST /v1/call`.
    Polling,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::Json, Way::Cbor, Way::Short, Way::Polling];
}

/// Why there is no connection (any more).
#[derive(Clone, Debug, PartialEq)]
pub enum Lost {
    /// It was cut.
    Cut(String),
    /// The server said `bye`, with this reason.
    Bye(Code),
    /// The server refused it.
    Refused(Problem),
}

/// One connection, opened by `hello`.
#[derive(Debug)]
pub struct Connection {
    /// What the server answered to `hello`.
    pub welcome: Welcome,
    /// Events that came while an answer was waited for, oldest first.
    pub events: VecDeque<ServerFrame>,
    out: mpsc::Sender<ClientFrame>,
    incoming: mpsc::Receiver<Result<ServerFrame, Lost>>,
    next_id: u64,
    lost: Option<Lost>,
    task: JoinHandle<()>,
}

/// The two ends between a connection and its transport's task.
struct Ends {
    out: mpsc::Receiver<ClientFrame>,
    incoming: mpsc::Sender<Result<ServerFrame, Lost>>,
}

impl Connection {
    /// Connects and says hello.
    ///
    /// # Errors
    /// When it is refused or cut before `welcome`.
    pub async fn open(way: Way, port: u16, token: &str, hello: Hello) -> Result<Connection, Lost> {
        let (out, out_end) = mpsc::channel(FRAMES_MAX);
        let (incoming_end, incoming) = mpsc::channel(FRAMES_MAX);
        let ends = Ends {
            out: out_end,
            incoming: incoming_end,
        };
        let token = token.to_owned();
        let hello_id = hello.id;
        let task = match way {
            Way::Json => tokio::spawn(websocket::run(port, token, hello, Encoding::Json, ends)),
            Way::Cbor | Way::Short => {
                tokio::spawn(websocket::run(port, token, hello, Encoding::Cbor, ends))
            }
            Way::Polling => tokio::spawn(polling::run(port, token, hello, ends)),
        };
        let mut connection = Connection {
            welcome: Welcome {
                id: 0,
                user: tidings_core::UserId([0; 16]),
                device: tidings_core::DeviceId([0; 16]),
                at: tidings_core::Time(0),
                heartbeat_ms: 0,
                digest: 0,
                rules: 0,
                server: String::new(),
                short: false,
            },
            events: VecDeque::new(),
            out,
            incoming,
            next_id: hello_id,
            lost: None,
            task,
        };
        // Events may be quicker than `welcome`.
        loop {
            match connection.receive().await? {
                ServerFrame::Welcome(welcome) => {
                    connection.welcome = welcome;
                    return Ok(connection);
                }
                ServerFrame::Error(error) => return Err(Lost::Refused(error.problem)),
                event => connection.events.push_back(event),
            }
        }
    }

    /// Connects with nothing special to say.
    ///
    /// # Errors
    /// When it is refused or cut before `welcome`.
    pub async fn open_plain(way: Way, port: u16, token: &str) -> Result<Connection, Lost> {
        Connection::open(way, port, token, hello()).await
    }

    /// Sends a frame under a new id, which is returned (a notice has none).
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn post(&mut self, mut frame: ClientFrame) -> Result<u64, Lost> {
        self.next_id += 1;
        set_id(&mut frame, self.next_id);
        if self.out.send(frame).await.is_err() {
            return Err(self.why().await);
        }
        Ok(self.next_id)
    }

    /// Sends a frame and waits for its answer. Events meanwhile are kept in [`Connection::events`].
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn ask(&mut self, frame: ClientFrame) -> Result<ServerFrame, Lost> {
        let id = self.post(frame).await?;
        loop {
            let frame = self.receive().await?;
            match answers(&frame) {
                Some(answered) if answered == id => return Ok(frame),
                _ => self.events.push_back(frame),
            }
        }
    }

    /// Sends a frame and waits for the problem that it must run into.
    ///
    /// # Errors
    /// The frame, if it was answered otherwise; or when the connection is lost.
    pub async fn refused(&mut self, frame: ClientFrame) -> Result<Problem, String> {
        match self.ask(frame).await {
            Ok(ServerFrame::Error(error)) => Ok(error.problem),
            Ok(other) => Err(format!("not refused: {other:?}")),
            Err(lost) => Err(format!("{lost:?}")),
        }
    }

    /// The next frame, whatever it is: kept events first.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn next(&mut self) -> Result<ServerFrame, Lost> {
        match self.events.pop_front() {
            Some(event) => Ok(event),
            None => self.receive().await,
        }
    }

    /// Waits for an event for which `pick` answers something; others are passed over.
    ///
    /// # Errors
    /// When none comes, or the connection is lost.
    pub async fn event<T>(
        &mut self,
        mut pick: impl FnMut(&ServerFrame) -> Option<T>,
    ) -> Result<T, Lost> {
        let until = Instant::now() + PATIENCE;
        loop {
            let frame = match timeout_at(until, self.next()).await {
                Ok(frame) => frame?,
                Err(_) => return Err(Lost::Cut("no such event came".to_owned())),
            };
            if let Some(found) = pick(&frame) {
                return Ok(found);
            }
        }
    }

    /// Waits until the server ends it.
    pub async fn ended(&mut self) -> Lost {
        let until = Instant::now() + PATIENCE;
        loop {
            match timeout_at(until, self.next()).await {
                Ok(Ok(_)) => {}
                Ok(Err(lost)) => return lost,
                Err(_) => return Lost::Cut("it does not end".to_owned()),
            }
        }
    }

    async fn receive(&mut self) -> Result<ServerFrame, Lost> {
        if let Some(lost) = &self.lost {
            return Err(lost.clone());
        }
        let lost = match self.incoming.recv().await {
            Some(Ok(ServerFrame::Bye(bye))) => Lost::Bye(bye.reason),
            Some(Ok(frame)) => return Ok(frame),
            Some(Err(lost)) => lost,
            None => Lost::Cut("its task ended".to_owned()),
        };
        self.lost = Some(lost.clone());
        Err(lost)
    }

    async fn why(&mut self) -> Lost {
        loop {
            match self.receive().await {
                Ok(event) => self.events.push_back(event),
                Err(lost) => return lost,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A hello with nothing special in it.
#[must_use]
pub fn hello() -> Hello {
    Hello {
        id: 1,
        token: None,
        client: "tidings-testing".to_owned(),
        rules: 1,
        marks: Vec::new(),
        heartbeat_ms: None,
        short: false,
    }
}

/// Which request a frame answers; `None` for an event.
#[must_use]
pub fn answers(frame: &ServerFrame) -> Option<u64> {
    use ServerFrame as S;
    match frame {
        S::Welcome(frame) => Some(frame.id),
        S::Pong(frame) => Some(frame.id),
        S::Sent(frame) => Some(frame.id),
        S::Done(frame) => Some(frame.id),
        S::Inbox(frame) => Some(frame.id),
        S::Conversation(frame) => frame.id,
        S::History(frame) => Some(frame.id),
        S::Members(frame) => Some(frame.id),
        S::Receipts(frame) => Some(frame.id),
        S::Users(frame) => Some(frame.id),
        S::Private(frame) => frame.id,
        S::Said(frame) => Some(frame.id),
        S::Error(ErrorFrame { id, .. }) => *id,
        _ => None,
    }
}

fn set_id(frame: &mut ClientFrame, id: u64) {
    use ClientFrame as C;
    match frame {
        C::Hello(frame) => frame.id = id,
        C::Ping(frame) => frame.id = id,
        C::Send(frame) => frame.id = id,
        C::Mark(frame) => frame.id = Some(id),
        C::Inbox(frame) => frame.id = id,
        C::Conversation(frame) => frame.id = id,
        C::History(frame) => frame.id = id,
        C::Members(frame) => frame.id = id,
        C::Receipts(frame) => frame.id = id,
        C::Users(frame) => frame.id = id,
        C::Watch(frame) => frame.id = Some(id),
        C::Typing(_) => {}
        C::PutPrivate(frame) => frame.id = id,
        C::Private(frame) => frame.id = id,
        C::Say(frame) => frame.id = id,
        C::Seen(frame) => frame.id = Some(id),
    }
}

/// A frame as it came, held strictly: read, written and read again it must be the same.
fn read_strictly(encoding: Encoding, bytes: &[u8]) -> Result<ServerFrame, Lost> {
    let frame: ServerFrame = encoding
        .decode(bytes)
        .map_err(|error| Lost::Cut(format!("unreadable frame from the server: {error}")))?;
    let again = encoding
        .encode(&frame)
        .and_then(|bytes| encoding.decode(&bytes));
    if again.as_ref() != Ok(&frame) {
        return Err(Lost::Cut(format!(
            "a frame that does not come out as it goes in: {frame:?}"
        )));
    }
    Ok(frame)
}
