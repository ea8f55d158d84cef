//! The end of a connection: its last frame, its close code; and frames that cannot be read, too many of which end it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidings_protocol::session::Bye;
use tidings_protocol::{Code, DecodeError, Encoding, Problem, Retry, ServerFrame};
use tokio::time::Instant;

use super::socket::Socket;
use crate::clock::random;
use crate::session::encode;

/// How long a closing client may take to read why.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Says why, and closes. The client's last word is not waited for longer than a moment.
pub(super) async fn close(socket: Socket, frames: VecDeque<Bytes>, reason: Code, code: u16) {
    // Whether it read the reason is its own affair.
    let _ = tokio::time::timeout(CLOSE_WITHIN, socket.close(frames, code, reason.name())).await;
}

pub(super) async fn answer_close(socket: Socket) {
    let _ = tokio::time::timeout(CLOSE_WITHIN, socket.answer_close()).await;
}

/// The last frame of a connection.
pub(in super::super) fn bye(reason: Code, encoding: Encoding) -> Bytes {
    let spread = u64::from(u16::from_le_bytes(random()));
    let reconnect_after_ms = match Problem::new(reason).retry {
        Retry::Never | Retry::LogIn => None,
        // Spread over two seconds, so that those who were cut off together do not come back together.
        Retry::Reconnect | Retry::Later | Retry::CatchUp => Some(spread % 2_000),
    };
    encode(
        &ServerFrame::Bye(Bye {
            reason,
            reconnect_after_ms,
        }),
        encoding,
    )
}

/// The WebSocket's own close code (RFC 6455, section 7.4; those from 4000 on are ours: 4000 and the HTTP
/// status).
pub(super) fn close_code(reason: Code) -> u16 {
    match reason {
        Code::Draining => 1012,
        Code::SlowConsumer | Code::Busy => 1013,
        Code::FrameTooLarge => 1009,
        Code::Internal => 1011,
        reason => 4_000 + Problem::new(reason).status,
    }
}

/// What is told about a frame that cannot be read.
pub(super) fn unreadable(error: DecodeError) -> Problem {
    let code = if error.unknown_frame {
        Code::UnknownFrame
    } else {
        Code::MalformedFrame
    };
    Problem::new(code).detail(error.message)
}

pub(super) fn wrong_type(encoding: Encoding) -> Problem {
    Problem::new(Code::MalformedFrame).detail(match encoding {
        Encoding::Json => "frames of tidings.v1.json are text messages",
        Encoding::Cbor => "frames of tidings.v1.cbor are binary messages",
    })
}

/// Frames that could not be read in this minute.
#[derive(Default)]
pub(super) struct BadFrames {
    since: Option<Instant>,
    count: u32,
}

impl BadFrames {
    /// Counts one more; answers how many that makes.
    pub(super) fn one_more(&mut self, now: Instant) -> u32 {
        match self.since {
            Some(since) if now.duration_since(since) < Duration::from_secs(60) => {}
            _ => {
                self.since = Some(now);
                self.count = 0;
            }
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}
