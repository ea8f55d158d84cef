//! `tidings tail`: messages as they come, for scripts.
//!
//! It keeps one small file: as far as each conversation was printed. It runs beside a `chat` of the same
//! account, and marks nothing unless told to.

mod follow;
mod print;
mod progress;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::session::{Hello, Ping};
use tidings_protocol::{ClientFrame, Problem, Retry, ServerFrame};
use tokio::time::{Instant, sleep_until};

use crate::account::{self, Account, AccountError};
use crate::args::TailArgs;
use crate::driver::connection::{ConnectionEvent, Connections, Dialling};
use crate::driver::http::{Http, HttpError, explain};
use crate::driver::stream::Network;
use crate::names;
use follow::Follower;
use print::Printer;
use progress::Progress;

const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Before the server has said how often it wants to hear from us.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Why nothing more is printed.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// Nobody is logged in.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// There is no such conversation, or it cannot be asked for.
    #[error("{0}: {1}")]
    Conversation(String, String),
    /// The server will not have us.
    #[error("{0}")]
    Refused(String),
    /// Nobody reads any more.
    #[error("cannot print: {0}")]
    Output(io::Error),
    /// How far it was printed cannot be kept.
    #[error("{path}: {1}", path = .0.display())]
    Progress(PathBuf, io::Error),
}

/// Prints messages until it is stopped.
///
/// # Errors
/// When the server will not have us, or nobody reads what is printed.
pub async fn tail(args: TailArgs) -> Result<(), TailError> {
    let (account, files, network) = account::open(&args.server).await?;
    let mut http = Http::new(network.clone(), Some(account.token.clone()));
    let mut wanted = Vec::new();
    for name in &args.conversations {
        let found = names::find(&mut http, name).await;
        let found =
            found.map_err(|error| TailError::Conversation(name.clone(), error.to_string()))?;
        wanted.push(match found {
            names::Named::Conversation(conversation) => conversation,
            names::Named::User(user) => tidings_core::id::direct_id(account.user, user),
        });
    }
    let progress =
        Progress::read(files.tail()).map_err(|error| TailError::Progress(files.tail(), error))?;
    let printer = Printer::new(http, account.user, args.json);
    let mut tail = Tail {
        connections: Connections::new(dialling(&args, &account, network)),
        follower: Follower::new(wanted, progress, args.from_start),
        printer,
        ack: args.ack,
        token: account.token,
        heartbeat: HEARTBEAT,
        wait: WAIT_FIRST,
        last_ping: 0,
    };
    let ended = tail.run(args.once).await;
    if let Err(TailError::Refused(_)) = &ended {
        // The next run asks for the password.
        let _ = files.forget();
    }
    tail.connections.finish().await;
    match ended {
        // Whoever read has had enough: `tidings tail | head`.
        Err(TailError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

fn dialling(args: &TailArgs, account: &Account, network: Arc<Network>) -> Dialling {
    Dialling {
        network,
        token: account.token.clone(),
        encoding: args.transport.encoding(),
        transport: args.transport.transport,
    }
}

struct Tail {
    connections: Connections,
    follower: Follower,
    printer: Printer,
    ack: bool,
    token: String,
    heartbeat: Duration,
    wait: Duration,
    last_ping: u64,
}

/// Everything that can wake it.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for the moment between two calls"
)]
enum Event {
    Connection(ConnectionEvent),
    Timer,
    Stop,
}

impl Tail {
    async fn run(&mut self, once: bool) -> Result<(), TailError> {
        self.connections.open();
        let mut connected = false;
        let mut timer = Instant::now() + HEARTBEAT;
        let mut frames = VecDeque::new();
        loop {
            for frame in frames.drain(..) {
                self.connections.send(frame);
            }
            let event = tokio::select! {
                event = self.connections.next() => Event::Connection(event),
                () = sleep_until(timer) => Event::Timer,
                stopped = tokio::signal::ctrl_c() => {
                    // Without signals there is only the other way to stop.
                    if stopped.is_err() { continue }
                    Event::Stop
                }
            };
            match event {
                Event::Stop => return Ok(()),
                Event::Connection(ConnectionEvent::Connected) => frames.push_back(self.hello()),
                Event::Connection(ConnectionEvent::Closed(why)) => {
                    eprintln!("tidings: {why}; trying again");
                    connected = false;
                    timer = self.later();
                }
                Event::Connection(ConnectionEvent::Frame(ServerFrame::Welcome(welcome))) => {
                    connected = true;
                    self.wait = WAIT_FIRST;
                    self.heartbeat = Duration::from_millis(welcome.heartbeat_ms.max(1000));
                    timer = Instant::now() + self.heartbeat;
                    frames.extend(self.follower.begin());
                }
                Event::Connection(ConnectionEvent::Frame(ServerFrame::Error(error))) => {
                    refusal(&error.problem)?;
                    self.connections.close();
                    connected = false;
                    timer = self.later();
                }
                Event::Connection(ConnectionEvent::Frame(ServerFrame::Bye(bye))) => {
                    refusal(&Problem::new(bye.reason))?;
                    self.connections.close();
                    connected = false;
                    timer = self.later().max(
                        Instant::now() + Duration::from_millis(bye.reconnect_after_ms.unwrap_or(0)),
                    );
                }
                Event::Connection(ConnectionEvent::Frame(frame)) => {
                    frames.extend(self.follow(frame).await?);
                }
                Event::Timer if connected => {
                    self.last_ping += 1;
                    frames.push_back(ClientFrame::Ping(Ping { id: self.last_ping }));
                    timer = Instant::now() + self.heartbeat;
                }
                Event::Timer => {
                    self.connections.open();
                    timer = Instant::now() + WAIT_MAX * 2;
                }
            }
            if once && self.follower.is_level() {
                for frame in frames.drain(..) {
                    self.connections.send(frame);
                }
                return Ok(());
            }
        }
    }

    /// Prints what a frame brings. Answers what to send.
    async fn follow(&mut self, frame: ServerFrame) -> Result<Vec<ClientFrame>, TailError> {
        let step = self.follower.handle(frame);
        for (conversation, entry) in &step.print {
            let printed = self.printer.print(conversation, entry).await;
            printed.map_err(TailError::Output)?;
        }
        self.printer.flush().map_err(TailError::Output)?;
        let marks = self.follower.printed(step.reached);
        let marks = marks.map_err(|(path, error)| TailError::Progress(path, error))?;
        let mut frames = step.ask;
        frames.extend(marks.filter(|_| self.ack).map(ClientFrame::Mark));
        Ok(frames)
    }

    fn hello(&self) -> ClientFrame {
        ClientFrame::Hello(Hello {
            id: 0,
            token: Some(self.token.clone()),
            client: concat!("tidings tail ", env!("CARGO_PKG_VERSION")).to_owned(),
            rules: tidings_core::entry::RULES,
            marks: Vec::new(),
            heartbeat_ms: None,
            short: false,
        })
    }

    /// When to connect again.
    fn later(&mut self) -> Instant {
        let at = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(WAIT_MAX);
        at
    }
}

/// An error if there is no point in connecting again.
fn refusal(problem: &Problem) -> Result<(), TailError> {
    match problem.retry {
        Retry::LogIn => Err(TailError::Refused(explain(problem))),
        _ => {
            eprintln!(
                "tidings: {}; trying again",
                HttpError::Refused(problem.clone())
            );
            Ok(())
        }
    }
}
