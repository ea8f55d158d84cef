//! Answers to requests, and the small events: marks, ticks.

use tidings_core::log::SEQ_MAX;
use tidings_protocol::mark::{MarkStep, Marks, MemberMarks, Ticks};
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::send::Sent;
use tidings_protocol::{Code, Problem, Retry};

use crate::client::Client;
use crate::conversation::Conversation;
use crate::output::Change;
use crate::requests::Request;

impl Client {
    pub(crate) fn handle_answered_send(&mut self, sent: &Sent) {
        let is_answer = |request: &Request| *request == Request::Send(sent.client_id);
        if self.requests.end_if(sent.id, is_answer).is_some() && sent.seq <= SEQ_MAX {
            self.handle_sent(sent.client_id, sent);
        }
    }

    pub(crate) fn handle_done(&mut self, id: u64) {
        if let Some(Request::Mark(updates)) = self
            .requests
            .end_if(id, |request| matches!(request, Request::Mark(_)))
        {
            self.marks_done(&updates);
        }
    }

    /// Who takes which refusal.
    pub(crate) fn handle_error(&mut self, frame: ErrorFrame) {
        let problem = frame.problem;
        // A notice that was wrong: there is nothing to be mended.
        let Some(id) = frame.id else { return };
        let Some(request) = self.requests.end(id) else {
            return;
        };
        let is_hello = matches!(request, Request::Hello(_));
        // The long forms say the same.
        self.handles.agreed &= problem.code != Code::UnknownHandle;
        match request {
            Request::Hello(_) => self.handle_hello_refused(&problem),
            Request::Ping => {}
            Request::Send(client_id) => self.handle_send_refused(client_id, problem.clone()),
            Request::Mark(updates) => self.marks_refused(&updates, &problem),
            Request::Inbox => self.handle_inbox_refused(&problem),
            Request::Conversation(id) => self.handle_summary_refused(id, &problem),
            Request::History(id, fetch) => self.handle_history_refused(id, fetch, &problem),
            Request::Users(users) => self.handle_users_refused(users, &problem),
            Request::LookUp(username) => self.changes.push_back(Change::LookedUp {
                username,
                user: None,
            }),
        }
        if !is_hello && must_stop(&problem) {
            self.stop(Some(problem.code));
        }
    }

    fn handle_users_refused(&mut self, users: Vec<tidings_core::UserId>, problem: &Problem) {
        // Names can wait for the next connection, or the next time they are needed.
        if problem.code == Code::TooMuch {
            self.config.limits.profiles_request_max = (users.len() / 2).max(1);
            self.people.wanted.extend(users);
        }
    }

    /// Marks of members have moved.
    pub(crate) fn handle_marks(&mut self, event: &Marks) {
        let id = event.conversation;
        let me = self.config.user;
        let Some(conversation) = self
            .conversations
            .get_mut(&id)
            .filter(|known| known.is_known())
        else {
            return;
        };
        for step in &event.marks {
            take_step(conversation, step, me);
        }
        self.mark_dirty(id);
        self.touch(id);
    }

    pub(crate) fn handle_ticks(&mut self, ticks: &Ticks) {
        let id = ticks.conversation;
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let before = conversation.ticks;
        conversation.ticks = MemberMarks {
            delivered: before.delivered.max(ticks.delivered),
            shown: before.shown.max(ticks.shown),
        };
        self.touch(id);
    }
}

fn take_step(conversation: &mut Conversation, step: &MarkStep, me: tidings_core::UserId) {
    if let Some(member) = conversation.members.get_mut(&step.user) {
        if let Some(delivered) = step.delivered {
            member.told.delivered = delivered;
            member.best.delivered = member.best.delivered.max(delivered);
        }
        if let Some(shown) = step.shown {
            member.told.shown = shown;
            member.best.shown = member.best.shown.max(shown);
        }
    }
    if let Some(read) = step.read.filter(|_| step.user == me) {
        conversation.read_told = read;
        conversation.read_wanted = conversation.read_wanted.max(read.seq);
        if read.seq > conversation.read_best.seq {
            conversation.read_best = read;
        }
    }
}

/// This device was logged out.
fn must_stop(problem: &Problem) -> bool {
    problem.retry == Retry::LogIn
}
