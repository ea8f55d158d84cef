//! A bad line between clients and the server: a TCP proxy that cuts connections at random moments, loses the
//! last bytes of what was under way, holds answers back, and goes half open (everything is swallowed, and
//! nobody is told).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is how a test speaks"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::chance::Chance;

/// How a line misbehaves by itself.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// By this it can be repeated.
    pub seed: u64,
    /// A connection lasts so many milliseconds at most.
    pub lasts_ms_max: u64,
}

/// A proxy to one port of the loopback address.
#[derive(Debug)]
pub struct Proxy {
    /// Connect here.
    pub port: u16,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Line {
    target: u16,
    /// Raised by one to cut all connections.
    cuts: watch::Sender<u64>,
    /// Whether what the server says is held back.
    holds: watch::Sender<bool>,
    /// Connections made from now on are refused at once.
    refuses: AtomicBool,
    /// Everything is swallowed in both directions.
    swallows: AtomicBool,
    faults: Mutex<Option<Faults>>,
    connections: AtomicU64,
}

/// What befalls one connection.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing, by itself.
    Lasts,
    /// After so long both ends are cut.
    Cut(Duration),
    /// After so long both ends are cut, and what the server said last is lost.
    LosesLast(Duration),
    /// After so long everything is swallowed; a while later both ends are cut.
    HalfOpen(Duration),
    /// What the server says comes late, and the connection is cut in the end.
    Late(Duration, Duration),
}

impl Proxy {
    /// A line that behaves until told otherwise.
    pub async fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(Line {
            target,
            cuts: watch::Sender::new(0),
            holds: watch::Sender::new(false),
            refuses: AtomicBool::new(false),
            swallows: AtomicBool::new(false),
            faults: Mutex::new(None),
            connections: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, line.clone()));
        Proxy {
            port,
            line,
            accepting,
        }
    }

    /// From now on new connections misbehave; `None`: they behave again.
    pub fn misbehave(&self, faults: Option<Faults>) {
        *self.line.faults.lock().unwrap() = faults;
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        self.line.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts every connection, and lets no new one through until [`Proxy::restore`].
    pub fn go_offline(&self) {
        self.line.refuses.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets connections through again.
    pub fn restore(&self) {
        self.line.refuses.store(false, Ordering::SeqCst);
    }

    /// Holds back what the server says.
    pub fn hold(&self) {
        self.line.holds.send_replace(true);
    }

    /// Lets through what was held back.
    pub fn release(&self) {
        self.line.holds.send_replace(false);
    }

    /// Swallows everything in both directions; nobody is told.
    pub fn swallow(&self, on: bool) {
        self.line.swallows.store(on, Ordering::SeqCst);
    }

    /// How many connections were made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.line.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if line.refuses.load(Ordering::SeqCst) {
            continue;
        }
        let number = line.connections.fetch_add(1, Ordering::SeqCst);
        let fate = match *line.faults.lock().unwrap() {
            None => Fate::Lasts,
            Some(faults) => draw(faults, number),
        };
        tokio::spawn(carry(line.clone(), client, fate));
    }
}

fn draw(faults: Faults, number: u64) -> Fate {
    let mut chance = Chance::part(faults.seed, number);
    let mut after = || Duration::from_millis(chance.below(faults.lasts_ms_max));
    let (first, second) = (after(), after());
    match chance.below(10) {
        0..5 => Fate::Cut(first),
        5..8 => Fate::LosesLast(first),
        8 => Fate::HalfOpen(first),
        _ => Fate::Late(first / 4, second),
    }
}

async fn carry(line: Arc<Line>, client: TcpStream, fate: Fate) {
    let mut cuts = line.cuts.subscribe();
    let Ok(server) = TcpStream::connect(("127.0.0.1", line.target)).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let loses = Arc::new(AtomicBool::new(false));
    let upwards = Carrier {
        line: line.clone(),
        loses: loses.clone(),
        late: Duration::ZERO,
        answers: false,
    };
    let downwards = Carrier {
        line: line.clone(),
        loses: loses.clone(),
        late: match fate {
            Fate::Late(late, _) => late,
            _ => Duration::ZERO,
        },
        answers: true,
    };
    let end = async {
        match fate {
            Fate::Lasts => std::future::pending().await,
            Fate::Cut(after) | Fate::Late(_, after) => tokio::time::sleep(after).await,
            Fate::LosesLast(after) => {
                tokio::time::sleep(after).await;
                loses.store(true, Ordering::SeqCst);
                // What the server says in this time is lost, and what the client says with it.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Fate::HalfOpen(after) => {
                tokio::time::sleep(after).await;
                loses.store(true, Ordering::SeqCst);
                tokio::time::sleep(after + Duration::from_millis(500)).await;
            }
        }
    };
    tokio::select! {
        () = upwards.run(from_client, to_server) => {}
        () = downwards.run(from_server, to_client) => {}
        _ = cuts.changed() => {}
        () = end => {}
    }
}

/// One direction of one connection.
struct Carrier {
    line: Arc<Line>,
    loses: Arc<AtomicBool>,
    late: Duration,
    /// From the server to the client.
    answers: bool,
}

impl Carrier {
    async fn run(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 16 * 1024];
        let mut holds = self.line.holds.subscribe();
        let mut torn = false;
        loop {
            let Ok(length @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            if self.answers {
                if !self.late.is_zero() {
                    tokio::time::sleep(self.late).await;
                }
                if holds.wait_for(|holds| !holds).await.is_err() {
                    return;
                }
            }
            if self.line.swallows.load(Ordering::SeqCst) {
                continue;
            }
            if self.loses.load(Ordering::SeqCst) {
                if !torn {
                    // The last that arrives is half a frame.
                    torn = true;
                    let _ = to.write_all(&buffer[..length / 2]).await;
                }
                continue;
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
