//! The digest as this device reckons it: if the server's differs, something was missed.

use tidings_core::digest;

use crate::client::Client;
use crate::conversation::Conversation;
use crate::requests::Request;

/// While it keeps differing on one connection, the inbox is asked for less often: every 2^n-th time, up to here.
const PATIENCE_MAX: u32 = 2;

impl Client {
    /// The sum over what the server told: heads, my read marks, the others' marks.
    pub(crate) fn digest(&self) -> u64 {
        let conversations = self
            .conversations
            .values()
            .filter(|known| known.is_in && known.is_known());
        conversations
            .map(|conversation| self.digest_part(conversation))
            .fold(0, digest::add)
    }

    fn digest_part(&self, conversation: &Conversation) -> u64 {
        let (id, me) = (conversation.id, self.config.user);
        let (generation, head, at) = (conversation.generation, conversation.head, conversation.at);
        let mut sum = digest::head(id, generation, head, at);
        sum = digest::add(sum, digest::read(id, me, conversation.read_told.seq));
        if conversation.tells_marks() {
            for member in conversation
                .members
                .values()
                .filter(|member| member.user != me)
            {
                sum = digest::add(
                    sum,
                    digest::delivered(id, member.user, member.told.delivered),
                );
                sum = digest::add(sum, digest::shown(id, member.user, member.told.shown));
            }
        }
        sum
    }

    pub(crate) fn check_digest(&mut self, server: u64) {
        if server == self.digest() {
            self.inbox.mismatches = 0;
            return;
        }
        // An answer that is under way will tell more.
        let asked =
            |request: &Request| matches!(request, Request::Inbox | Request::Conversation(_));
        if self.requests.count(asked) > 0 {
            return;
        }
        let count = self.inbox.mismatches;
        self.inbox.mismatches = count.saturating_add(1);
        let patience = (count / 2).min(PATIENCE_MAX);
        if count.is_multiple_of(1 << patience) {
            self.begin_inbox();
        }
    }
}
