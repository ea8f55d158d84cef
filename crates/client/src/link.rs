//! The connection: opened, greeted, kept alive, given up, and opened again.
//!
//! In: that it is open or closed, `welcome`, `pong`, `bye`. Next: `sync`, if the digest differs.

use tidings_core::entry::RULES;
use tidings_protocol::presence::Watch;
use tidings_protocol::session::{Bye, Hello, Ping, Pong, Welcome};
use tidings_protocol::{ClientFrame, Code, Problem, Retry};

use crate::client::Client;
use crate::clock::Tick;
use crate::output::{Output, Status};
use crate::requests::Request;

/// Bounds of what a server may ask of the heartbeat.
const HEARTBEAT_MS_MIN: u64 = 1_000;
const HEARTBEAT_MS_MAX: u64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not to be opened by itself.
    Stopped(Option<Code>),
    /// To be opened at this tick.
    Waiting(Tick),
    Opening,
    /// `hello` waits for its answer.
    Greeting,
    Up,
}

impl Link {
    pub(crate) fn is_up(self) -> bool {
        self == Link::Up
    }
}

#[derive(Debug)]
pub(crate) struct Heart {
    pub(crate) failures: u32,
    heartbeat_ms: u64,
    next_ping: Tick,
}

impl Heart {
    pub(crate) fn new() -> Heart {
        Heart {
            failures: 0,
            heartbeat_ms: 30_000,
            next_ping: 0,
        }
    }
}

impl Client {
    pub(crate) fn open_link(&mut self) {
        self.link = Link::Opening;
        self.outputs.push_back(Output::Connect);
    }

    pub(crate) fn greet(&mut self) {
        // What waited on an earlier connection will not be answered on this one.
        self.forget_requests();
        self.link = Link::Greeting;
        self.handles.agreed = false;
        let marks = self.marks_for_hello();
        let id = self
            .requests
            .begin(Request::Hello(marks.clone()), self.clock.tick());
        self.outputs
            .push_back(Output::Send(ClientFrame::Hello(Hello {
                id,
                token: self.config.token.clone(),
                client: self.config.client.clone(),
                rules: RULES,
                marks,
                heartbeat_ms: None,
                short: !self.handles.refused,
            })));
    }

    pub(crate) fn handle_welcome(&mut self, welcome: &Welcome) {
        let Some(Request::Hello(marks)) = self
            .requests
            .end_if(welcome.id, |request| matches!(request, Request::Hello(_)))
        else {
            return;
        };
        if (welcome.user, welcome.device) != (self.config.user, self.config.device) {
            // Somebody else's token: nothing here is to reach them.
            return self.stop(Some(Code::Unauthorized));
        }
        self.link = Link::Up;
        self.handles.agreed = welcome.short;
        self.heart.failures = 0;
        self.heart.heartbeat_ms = welcome
            .heartbeat_ms
            .clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX);
        self.heart.next_ping = self.clock.tick() + self.heart.heartbeat_ms;
        self.clock.set_server(welcome.at);
        self.marks_confirmed(&marks);
        self.send_watch();
        self.inbox.mismatches = 0;
        self.check_digest(welcome.digest);
        for id in self.conversations.keys().copied().collect::<Vec<_>>() {
            self.want_fetch(id);
            self.mark_due(id);
        }
    }

    pub(crate) fn handle_pong(&mut self, pong: &Pong) {
        if self
            .requests
            .end_if(pong.id, |request| *request == Request::Ping)
            .is_some()
        {
            self.check_digest(pong.digest);
        }
    }

    pub(crate) fn handle_bye(&mut self, bye: &Bye) {
        self.handles.refused |= bye.reason == Code::UnknownHandle;
        match bye.reconnect_after_ms {
            Some(millis) => {
                let wait = millis.min(HEARTBEAT_MS_MAX);
                self.outputs.push_back(Output::Disconnect);
                self.lose_link();
                self.link = Link::Waiting(self.clock.tick() + wait.max(1));
            }
            None => self.stop(Some(bye.reason)),
        }
    }

    pub(crate) fn handle_hello_refused(&mut self, problem: &Problem) {
        match problem.retry {
            Retry::LogIn => self.stop(Some(problem.code)),
            _ if problem.code == Code::UpdateNeeded => self.stop(Some(problem.code)),
            _ => {
                self.outputs.push_back(Output::Disconnect);
                self.lose_link();
            }
        }
    }

    /// The connection is gone: another one after a while.
    pub(crate) fn lose_link(&mut self) {
        if matches!(self.link, Link::Stopped(_) | Link::Waiting(_)) {
            return;
        }
        let limits = &self.config.limits;
        let wait = self.random.back_off(
            self.heart.failures,
            limits.retry_first_ms,
            limits.retry_max_ms,
        );
        self.heart.failures = self.heart.failures.saturating_add(1);
        self.link = Link::Waiting(self.clock.tick() + wait);
        self.forget_requests();
        self.people.disconnected();
        for id in self.conversations.keys().copied().collect::<Vec<_>>() {
            self.touch(id);
        }
    }

    /// No connection until the user does something.
    pub(crate) fn stop(&mut self, reason: Option<Code>) {
        if !matches!(self.link, Link::Stopped(_) | Link::Waiting(_)) {
            self.outputs.push_back(Output::Disconnect);
        }
        self.lose_link();
        self.link = Link::Stopped(reason);
    }

    fn forget_requests(&mut self) {
        for request in self.requests.clear() {
            match request {
                Request::Conversation(id) => {
                    if let Some(conversation) = self.conversations.get_mut(&id) {
                        conversation.summary_wanted = true;
                    }
                }
                Request::Users(users) => self.people.wanted.extend(users),
                Request::LookUp(username) => self.people.lookups.push_front(username),
                _ => {}
            }
        }
        for conversation in self.conversations.values_mut() {
            conversation.fetching = None;
            conversation.fetch_at = 0;
            conversation.summary_asked = false;
            conversation.sent_marks = (0, 0);
        }
        self.outbox.disconnected();
        self.inbox.interrupted();
    }

    pub(crate) fn pump_link(&mut self) {
        let now = self.clock.tick();
        if let Link::Waiting(at) = self.link
            && at <= now
        {
            self.open_link();
        }
        if !matches!(self.link, Link::Up | Link::Greeting) {
            return;
        }
        let limit = self.config.limits.answer_timeout_ms;
        if self
            .requests
            .oldest()
            .is_some_and(|at| now.saturating_sub(at) >= limit)
        {
            self.outputs.push_back(Output::Disconnect);
            return self.lose_link();
        }
        if self.link.is_up() && self.heart.next_ping <= now {
            self.ping();
        }
    }

    /// Asks for the digest, now.
    pub(crate) fn ping(&mut self) {
        let now = self.clock.tick();
        self.heart.next_ping = now + self.heart.heartbeat_ms;
        let id = self.requests.begin(Request::Ping, now);
        self.outputs
            .push_back(Output::Send(ClientFrame::Ping(Ping { id })));
    }

    pub(crate) fn link_timeout(&self) -> Option<Tick> {
        match self.link {
            Link::Stopped(_) | Link::Opening => None,
            Link::Waiting(at) => Some(at),
            Link::Greeting | Link::Up => {
                let answer = self
                    .requests
                    .oldest()
                    .map(|at| at + self.config.limits.answer_timeout_ms);
                let ping = self.link.is_up().then_some(self.heart.next_ping);
                answer.into_iter().chain(ping).min()
            }
        }
    }

    pub(crate) fn send_watch(&mut self) {
        if self.link.is_up() {
            let watch = Watch {
                id: None,
                users: self.people.watched.clone(),
                conversation: self.focus,
            };
            self.outputs
                .push_back(Output::Send(ClientFrame::Watch(watch)));
        }
    }

    pub(crate) fn status_now(&self) -> Status {
        match self.link {
            Link::Stopped(reason) => Status::Stopped(reason),
            Link::Waiting(_) => Status::Offline,
            Link::Opening | Link::Greeting => Status::Connecting,
            Link::Up if self.is_level() => Status::Online,
            Link::Up => Status::Syncing,
        }
    }
}
