//! The driver around the client core: does what it asks for, and tells it what happens.
//!
//! In: frames, answers of the local store, time. Next: [`tidings_client::Client`], then whoever shows its
//! changes.

pub(crate) mod connection;
pub(crate) mod http;
mod polling;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod websocket;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidings_client::{Change, Client, Config, Output};
use tidings_core::Time;

use crate::store::{Store, StoreAnswer, StoreError};
use connection::{ConnectionEvent, Connections, Dialling};

/// At the latest after so long the clock is looked at: it stands still for the runtime while a machine sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Everything that can wake the driver.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for the moment between two calls"
)]
#[derive(Debug)]
pub(crate) enum Event {
    Connection(ConnectionEvent),
    Store(StoreAnswer),
    Timeout,
}

/// A client with its connection and its store.
pub(crate) struct Driver {
    client: Client,
    connections: Connections,
    store: Store,
    why_offline: Option<String>,
}

impl Driver {
    /// A client with what the store holds.
    pub(crate) fn new(config: Config, mut store: Store, dialling: Dialling) -> Driver {
        let snapshot = store.take_snapshot();
        Driver {
            client: Client::new(config, snapshot, now()),
            connections: Connections::new(dialling),
            store,
            why_offline: None,
        }
    }

    /// The client: wish something, then call `poll_change` until there is none.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Why the last connection ended, while there is none.
    pub(crate) fn why_offline(&self) -> Option<&str> {
        self.why_offline.as_deref()
    }

    /// Waits for the next thing to happen. May be dropped at any moment: nothing is lost.
    pub(crate) async fn next_event(&mut self) -> Event {
        let until = self.client.poll_timeout();
        let sleep = until.map_or(SLEEP_MAX, |at| {
            Duration::from_millis(at.millis_since(now())).min(SLEEP_MAX)
        });
        tokio::select! {
            event = self.connections.next() => Event::Connection(event),
            answer = self.store.next_answer() => Event::Store(answer),
            () = tokio::time::sleep(sleep) => Event::Timeout,
        }
    }

    /// Tells the client what happened.
    ///
    /// # Errors
    /// When the store has failed: nothing can be relied on any more.
    pub(crate) fn handle(&mut self, event: Event) -> Result<(), StoreError> {
        let now = now();
        match event {
            Event::Connection(ConnectionEvent::Connected) => {
                self.why_offline = None;
                self.client.handle_connected(now);
            }
            Event::Connection(ConnectionEvent::Frame(frame)) => {
                self.client.handle_frame(now, frame)
            }
            Event::Connection(ConnectionEvent::Closed(why)) => {
                self.why_offline = Some(why);
                self.client.handle_disconnected(now);
            }
            Event::Store(StoreAnswer::Stored(token)) => self.client.handle_stored(now, token),
            Event::Store(StoreAnswer::Loaded(token, rows)) => {
                self.client.handle_loaded(now, token, rows)
            }
            Event::Store(StoreAnswer::Failed(error)) => return Err(error),
            Event::Timeout => self.client.handle_timeout(now),
        }
        Ok(())
    }

    /// Does what the client asks for, up to the next change of what is shown.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        loop {
            match self.client.poll_output()? {
                Output::Connect => self.connections.open(),
                Output::Disconnect => self.connections.close(),
                Output::Send(frame) => {
                    if !self.connections.send(frame) {
                        self.client.handle_disconnected(now());
                    }
                }
                Output::Store(ops, token) => self.store.write(ops, token),
                Output::Load(reads, token) => self.store.load(reads, token),
                Output::Changed(change) => return Some(change),
            }
        }
    }

    /// Writes and sends what is still to be written and sent, then lets go of everything.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        while self.poll_change().is_some() {}
        self.connections.finish().await;
        self.store.finish().await
    }
}

/// The device's own time.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).min(Time::MAX)
}
