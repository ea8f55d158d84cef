//! Who received and read one message.
//!
//! In: a `receipts` request. Next: the answer, from the marks in memory and the times that the store keeps.

use std::sync::Arc;

use tidings_core::UserId;
use tidings_core::mark::MarkKind;
use tidings_protocol::mark::{Receipt, Receipts, ReceiptsRequest};
use tidings_protocol::{Code, Problem};
use tidings_store::Want;

use super::{Chat, problem_of_store};
use crate::session::Caller;

impl Chat {
    /// Who received and read one message, and when.
    ///
    /// # Errors
    /// `not_found` when the caller is not in the conversation or may not see the entry.
    pub async fn receipts(
        self: &Arc<Self>,
        caller: Caller,
        request: ReceiptsRequest,
    ) -> Result<Receipts, Problem> {
        let conversation = self.open_for(caller.user, request.conversation).await?;
        let entry = self
            .read_one(&conversation, request.seq, Want::Envelopes)
            .await?;
        let steps = self
            .store
            .steps_past(conversation.log(), request.seq)
            .await
            .map_err(problem_of_store)?;
        // Who hides how far it has read does not see it of others.
        let is_shown = self.users.is_shown(caller.user).await?;
        let Some(loaded) = conversation.try_loaded() else {
            return Err(Problem::new(Code::Internal));
        };
        let member = loaded
            .member_in(caller.user)
            .ok_or_else(|| Problem::new(Code::NotFound))?;
        let entry = entry
            .filter(|_| member.may_see(request.seq))
            .ok_or_else(|| Problem::new(Code::TargetNotFound))?;
        let time_of = |user: UserId, kind| {
            steps
                .iter()
                .find(|step| step.owner == user.0 && step.kind == kind)
                .map(|step| step.at)
        };
        let recipients = loaded
            .present()
            .filter(|(user, member)| {
                *user != entry.envelope.author && member.is_recipient(request.seq)
            })
            .map(|(user, _)| {
                let marks = loaded.marks_of(user);
                let delivered = marks.delivered >= request.seq;
                let shown = is_shown && marks.shown >= request.seq;
                Receipt {
                    user,
                    delivered,
                    shown,
                    delivered_at: time_of(user, MarkKind::Delivered).filter(|_| delivered),
                    shown_at: time_of(user, MarkKind::Shown).filter(|_| shown),
                }
            })
            .collect();
        Ok(Receipts {
            id: request.id,
            conversation: request.conversation,
            seq: request.seq,
            recipients,
        })
    }
}
