//! A connection as the driver sees it: frames in, events out, whatever they travel over.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::stream::Network;
use super::websocket::OpenError;
use super::{polling, websocket};

/// Frames that may wait for a connection to take them; one more and the connection is given up.
const FRAMES_WAITING_MAX: usize = 1024;
/// Events that may wait for the driver; then the server waits.
const EVENTS_WAITING_MAX: usize = 256;
/// How long a connection that is let go may take to send what it was given.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// Over what frames travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// A WebSocket; long polling where only that gets through.
    #[default]
    Auto,
    /// A WebSocket and nothing else.
    Ws,
    /// Long polling and nothing else.
    Poll,
}

/// How to connect.
#[derive(Clone)]
pub(crate) struct Dialling {
    pub(crate) network: Arc<Network>,
    pub(crate) token: String,
    pub(crate) encoding: Encoding,
    pub(crate) transport: Transport,
}

/// What happens to a connection.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for the moment between two calls"
)]
#[derive(Debug)]
pub(crate) enum ConnectionEvent {
    /// It is open.
    Connected,
    /// A frame came.
    Frame(ServerFrame),
    /// It is closed, or could not be opened, and why.
    Closed(String),
}

/// Why a connection ended.
pub(crate) enum Closed {
    /// This side let go of it.
    ByUs,
    /// Anything else.
    Because(String),
}

/// Where events go. Each says of which connection it is: one that was let go may still have something to say.
#[derive(Clone)]
pub(crate) struct Events {
    connection: u64,
    sender: mpsc::Sender<(u64, ConnectionEvent)>,
}

impl Events {
    /// False if nobody listens any more.
    pub(crate) async fn send(&self, event: ConnectionEvent) -> bool {
        self.sender.send((self.connection, event)).await.is_ok()
    }
}

/// The connection there is, if there is one, and the events of it.
pub(crate) struct Connections {
    dialling: Dialling,
    current: Option<Connection>,
    last: u64,
    sender: mpsc::Sender<(u64, ConnectionEvent)>,
    receiver: mpsc::Receiver<(u64, ConnectionEvent)>,
}

struct Connection {
    number: u64,
    frames: mpsc::Sender<ClientFrame>,
    task: JoinHandle<()>,
}

impl Connections {
    pub(crate) fn new(dialling: Dialling) -> Connections {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
        Connections {
            dialling,
            current: None,
            last: 0,
            sender,
            receiver,
        }
    }

    /// Opens a connection in the place of the one there is.
    pub(crate) fn open(&mut self) {
        self.last += 1;
        let events = Events {
            connection: self.last,
            sender: self.sender.clone(),
        };
        let (frames, receiver) = mpsc::channel(FRAMES_WAITING_MAX);
        let task = tokio::spawn(run(self.dialling.clone(), receiver, events));
        self.current = Some(Connection {
            number: self.last,
            frames,
            task,
        });
    }

    /// Lets go of the connection; what it was given is still sent.
    pub(crate) fn close(&mut self) {
        self.current = None;
    }

    /// Like `close`, and waits until it is.
    pub(crate) async fn finish(&mut self) {
        if let Some(Connection { frames, task, .. }) = self.current.take() {
            drop(frames);
            let _ = tokio::time::timeout(CLOSE_WITHIN, task).await;
        }
    }

    /// Sends a frame, if there is a connection. False if the connection takes no more: it is let go.
    pub(crate) fn send(&mut self, frame: ClientFrame) -> bool {
        let Some(connection) = &self.current else {
            return true;
        };
        let sent = connection.frames.try_send(frame).is_ok();
        if !sent {
            self.current = None;
        }
        sent
    }

    /// The next event of the current connection.
    pub(crate) async fn next(&mut self) -> ConnectionEvent {
        loop {
            let Some((number, event)) = self.receiver.recv().await else {
                // Not while this value holds a sender itself.
                return std::future::pending().await;
            };
            if self
                .current
                .as_ref()
                .is_some_and(|current| current.number == number)
            {
                if matches!(event, ConnectionEvent::Closed(_)) {
                    self.current = None;
                }
                return event;
            }
        }
    }
}

/// The whole life of a connection.
async fn run(dialling: Dialling, mut frames: mpsc::Receiver<ClientFrame>, events: Events) {
    let closed = match dialling.transport {
        Transport::Ws => over_websocket(&dialling, &mut frames, &events)
            .await
            .unwrap_or_else(told),
        Transport::Poll => over_polling(&dialling, &mut frames, &events).await,
        Transport::Auto => match over_websocket(&dialling, &mut frames, &events).await {
            Ok(closed) => closed,
            // Something is there and speaks no WebSocket.
            Err(OpenError::Refused(_)) => over_polling(&dialling, &mut frames, &events).await,
            Err(error) => told(error),
        },
    };
    if let Closed::Because(why) = closed {
        events.send(ConnectionEvent::Closed(why)).await;
    }
}

async fn over_websocket(
    dialling: &Dialling,
    frames: &mut mpsc::Receiver<ClientFrame>,
    events: &Events,
) -> Result<Closed, OpenError> {
    let socket = websocket::open(&dialling.network, dialling.encoding).await?;
    if !events.send(ConnectionEvent::Connected).await {
        return Ok(Closed::ByUs);
    }
    Ok(websocket::run(socket, dialling.encoding, frames, events).await)
}

async fn over_polling(
    dialling: &Dialling,
    frames: &mut mpsc::Receiver<ClientFrame>,
    events: &Events,
) -> Closed {
    if let Err(why) = polling::is_reachable(&dialling.network).await {
        return Closed::Because(why);
    }
    if !events.send(ConnectionEvent::Connected).await {
        return Closed::ByUs;
    }
    polling::run(
        dialling.network.clone(),
        Some(dialling.token.clone()),
        frames,
        events,
    )
    .await
}

fn told(error: OpenError) -> Closed {
    Closed::Because(match error {
        OpenError::Connect(error) => error.to_string(),
        OpenError::Refused(why) => format!("no WebSocket: {why}"),
        OpenError::Unavailable => "the server takes no connections at the moment".into(),
    })
}
