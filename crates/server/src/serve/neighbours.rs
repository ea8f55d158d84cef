//! What the accounts are told of conversations and presence. They hold the accounts, so these must not
//! hold them.

use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use tidings_core::UserId;
use tidings_protocol::Problem;

use crate::chat::Chat;
use crate::presence::Presence;
use crate::session::Caller;
use crate::users::Neighbours;

struct Rest {
    chat: Weak<Chat>,
    presence: Weak<Presence>,
}

pub(super) fn of(chat: &Arc<Chat>, presence: &Arc<Presence>) -> Arc<dyn Neighbours> {
    Arc::new(Rest {
        chat: Arc::downgrade(chat),
        presence: Arc::downgrade(presence),
    })
}

impl Neighbours for Rest {
    fn device_added(&self, caller: Caller) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async move {
            match self.chat.upgrade() {
                Some(chat) => chat.device_added(caller).await,
                None => Ok(()),
            }
        })
    }

    fn device_removed(&self, caller: Caller) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(chat) = self.chat.upgrade() {
                chat.device_removed(caller).await;
            }
        })
    }

    fn share_conversation(
        &self,
        one: UserId,
        other: UserId,
    ) -> BoxFuture<'_, Result<bool, Problem>> {
        Box::pin(async move {
            match self.chat.upgrade() {
                Some(chat) => chat.share_conversation(one, other).await,
                None => Ok(false),
            }
        })
    }

    fn visibility_changed(&self, user: UserId) {
        if let Some(presence) = self.presence.upgrade() {
            presence.visibility_changed(user);
        }
    }
}
