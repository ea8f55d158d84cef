//! Beginning and ending a session, the same for every transport.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::entry::RULES;
use tidings_protocol::session::{Hello, Welcome};
use tidings_protocol::{Code, Encoding, Problem, ServerFrame};

use super::App;
use crate::metrics::Transport;
use crate::session::{Manner, Session};

/// A session and what it is known by elsewhere. Dropped, it is forgotten everywhere.
pub(super) struct Live {
    pub(super) app: Arc<App>,
    transport: Transport,
    /// The session.
    pub(super) session: Arc<Session>,
    /// How often its client is to send a heartbeat.
    pub(super) heartbeat: Duration,
}

impl Live {
    /// Opens a session: it is subscribed first, then the heads are read, then its queue gets `welcome`.
    ///
    /// # Errors
    /// `unauthorized`, `draining`, `too_much`, or when the store fails.
    pub(super) async fn open(
        app: &Arc<App>,
        token: Option<&str>,
        hello: Hello,
        encoding: Encoding,
        transport: Transport,
    ) -> Result<Live, Problem> {
        if app.is_draining() {
            return Err(Problem::new(Code::Draining));
        }
        let marks_max = app.settings.chat.marks_per_frame_max;
        if hello.marks.len() > marks_max {
            return Err(Problem::too_much("marks_per_frame_max", marks_max as u64));
        }
        let token = token.ok_or_else(|| Problem::new(Code::Unauthorized))?;
        let caller = app.users.authenticate(token).await?;
        let settings = &app.settings.sessions;
        let heartbeat_ms = hello
            .heartbeat_ms
            .unwrap_or(settings.heartbeat_ms)
            .min(settings.heartbeat_ms_max)
            .max(settings.heartbeat_ms_min);
        let manner = Manner {
            encoding,
            short: hello.short && transport == Transport::WebSocket,
        };
        let session = app.hub.open(caller, manner);
        app.metrics.session_opened(transport);
        let live = Live {
            app: app.clone(),
            transport,
            session,
            heartbeat: Duration::from_millis(heartbeat_ms),
        };
        // Once more, now that a revocation would find the session: none slips in between.
        app.users.authenticate(token).await?;
        app.chat.attach(&live.session, hello.marks).await?;
        if app.users.touch(caller) {
            app.metrics.session_is_back(transport);
        }
        app.presence.session_opened(&live.session, heartbeat_ms);
        let welcome = |digest| {
            ServerFrame::Welcome(Welcome {
                id: hello.id,
                user: caller.user,
                device: caller.device,
                at: app.clock.now(),
                heartbeat_ms,
                digest,
                rules: RULES,
                server: concat!("tidings/", env!("CARGO_PKG_VERSION")).to_owned(),
                short: live.session.short,
            })
        };
        match app.hub.user(caller.user) {
            Some(user) => user.push_digest_first(&live.session, welcome),
            // Closed meanwhile: the transport finds out by itself.
            None => live.session.push(&welcome(0)),
        }
        Ok(live)
    }

    /// The client gave a sign of life.
    pub(super) fn heartbeat(&self) {
        self.app.presence.heartbeat(&self.session);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let session = &self.session;
        let reason = session.closed();
        session.close(Code::SessionGone);
        self.app.presence.session_closed(session);
        self.app.chat.detach(session);
        self.app.hub.close(session);
        self.app.metrics.session_closed(self.transport, reason);
    }
}
