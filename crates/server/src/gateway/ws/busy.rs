//! What keeps a connection busy: most of the time nothing does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tidings_protocol::ServerFrame;
use tidings_protocol::session::Ping;
use tokio::time::{Instant, Sleep};

/// Heartbeats that wait for their answer before nothing more is read.
const PINGS_MAX: usize = 16;

/// What a connection does besides waiting for the next frame.
#[derive(Default)]
pub(super) struct Busy {
    /// The request that is being handled, other than a send or a heartbeat.
    pub(super) pending: Option<Pin<Box<dyn Future<Output = Option<ServerFrame>> + Send>>>,
    /// The heartbeats that are being answered: others look at the store for it, and nothing else waits for that.
    pub(super) pinging: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Those that came meanwhile.
    pub(super) pings: Vec<Ping>,
    /// When the server shuts down: what waits must be written by then.
    pub(super) ends_by: Option<Instant>,
    /// Not read from before this moment: it asked too often.
    pub(super) paused: Option<Pin<Box<Sleep>>>,
}

impl Busy {
    pub(super) fn may_read(&self) -> bool {
        self.pending.is_none() && self.paused.is_none() && self.pings.len() < PINGS_MAX
    }

    pub(super) fn is_over(&self) -> bool {
        self.pending.is_none()
            && self.pinging.is_none()
            && self.pings.is_empty()
            && self.paused.is_none()
            && self.ends_by.is_none()
    }
}

/// What is waited for, if anything; it is over then.
pub(super) fn poll_slot<F: Future + Unpin>(
    slot: &mut Option<F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let Some(waited) = slot else {
        return Poll::Pending;
    };
    let polled = Pin::new(waited).poll(cx);
    if polled.is_ready() {
        *slot = None;
    }
    polled
}
