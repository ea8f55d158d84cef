//! What a conversation contributes to the digests of its members' inboxes.
//!
//! In: the state and marks of a loaded conversation (`loaded`). Next: the digest of each member's sessions (`hub`).

use tidings_core::digest;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::mark::MemberMarks;

use super::loaded::{Loaded, UserMarks};
use crate::hub::Part;

impl UserMarks {
    /// What the read mark contributes to the user's digest.
    fn read_part(&self, id: ConversationId, user: UserId) -> u64 {
        match self.reckoned_read {
            (seq, part) if seq == self.read.seq && seq > 0 => part,
            _ => digest::read(id, user, self.read.seq),
        }
    }

    /// Reckons that, for as long as the read mark stays where it is.
    pub(super) fn reckon_read(&mut self, id: ConversationId, user: UserId) {
        self.reckoned_read = (self.read.seq, self.read_part(id, user));
    }
}

impl Loaded {
    /// What this conversation contributes to a user's digest; nothing for who is out.
    pub(super) fn part(&self, id: ConversationId, user: UserId) -> Part {
        if self.member_in(user).is_none() {
            return Part::default();
        }
        let (read_part, told_part) = match self.marks.get(&user) {
            Some(marks) => (marks.read_part(id, user), marks.told_part),
            None => (digest::read(id, user, 0), Part::default()),
        };
        let own = Part {
            plain: digest::add(self.head_part(id), read_part),
            shown: 0,
        };
        if !self.tells_marks() {
            return own;
        }
        own.with(self.told_sum.without(told_part))
    }

    fn head_part(&self, id: ConversationId) -> u64 {
        let state = &self.state;
        let (seq, part) = self.head_part.get();
        if seq == state.seq {
            return part;
        }
        let part = digest::head(id, state.generation, state.seq, state.at);
        self.head_part.set((state.seq, part));
        part
    }

    /// Tells of a user's marks: what others know of them is now what they are. Answers whether the delivered
    /// mark is among what is news.
    pub(super) fn tell(&mut self, id: ConversationId, user: UserId) -> bool {
        let Some(marks) = self.marks.get_mut(&user) else {
            return false;
        };
        let delivered_moved = marks.delivered > marks.told.delivered;
        let before = marks.told_part;
        marks.told = MemberMarks {
            delivered: marks.delivered,
            shown: marks.shown,
        };
        marks.told_part = told_part(id, user, marks.told);
        self.told_sum = self.told_sum.without(before).with(marks.told_part);
        delivered_moved
    }

    /// What others know of everybody's marks is now what they are. The sum is to be made anew.
    pub(super) fn tell_all(&mut self) {
        for marks in self.marks.values_mut() {
            marks.told = MemberMarks {
                delivered: marks.delivered,
                shown: marks.shown,
            };
        }
    }

    /// Adds up the told marks of all who are in, and reckons their read marks: after a load, or when somebody came or
    /// went.
    pub(super) fn sum_told(&mut self, id: ConversationId) {
        self.told_sum = Part::default();
        if !self.tells_marks() {
            return;
        }
        let present: Vec<UserId> = self.present().map(|(user, _)| user).collect();
        for user in present {
            if let Some(marks) = self.marks.get_mut(&user) {
                marks.reckon_read(id, user);
                marks.told_part = told_part(id, user, marks.told);
                self.told_sum = self.told_sum.with(marks.told_part);
            }
        }
    }
}

fn told_part(id: ConversationId, user: UserId, told: MemberMarks) -> Part {
    Part {
        plain: digest::delivered(id, user, told.delivered),
        shown: digest::shown(id, user, told.shown),
    }
}
