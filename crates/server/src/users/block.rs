//! Blocks: two users of whom one blocked the other cannot write to each other and do not see each other.

use std::sync::Arc;

use tidings_core::UserId;
use tidings_protocol::account::Blocks;
use tidings_protocol::{Code, Problem};
use tidings_store::DocumentKind;

use super::{Users, damaged, finish, record, store_failed};
use crate::session::Caller;

/// Documents in one read of the store.
const PAGE: usize = 256;

impl Users {
    /// Blocks a user; one who is blocked stays so.
    ///
    /// # Errors
    /// `not_found`, `invalid` (myself), `too_much`.
    pub async fn block(self: &Arc<Self>, caller: Caller, user: UserId) -> Result<(), Problem> {
        if user == caller.user {
            return Err(Problem::new(Code::Invalid).detail("Nobody can block themselves."));
        }
        if self.account(user).await?.is_none() {
            return Err(Problem::new(Code::NotFound));
        }
        let users = self.clone();
        finish(async move {
            let _lock = users.lock(caller.user).await;
            users.forget_blocks_elsewhere(caller.user);
            let blocked = users.blocked_by(caller.user).await?;
            let max = users.settings.blocks_per_user_max;
            if blocked.binary_search(&user).is_ok() {
                // This may be a retry: whoever blocked may not have told the others.
                return users.tell_changed(caller.user).await;
            }
            if blocked.len() >= max {
                return Err(Problem::too_much("blocks_per_user_max", max as u64));
            }
            let since = record::encode_block(users.clock.now());
            users.set_block(caller.user, user, Some(since)).await
        })
        .await
    }

    /// Takes a block back; if there is none, nothing changes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unblock(self: &Arc<Self>, caller: Caller, user: UserId) -> Result<(), Problem> {
        let users = self.clone();
        finish(async move {
            let _lock = users.lock(caller.user).await;
            users.forget_blocks_elsewhere(caller.user);
            if users
                .blocked_by(caller.user)
                .await?
                .binary_search(&user)
                .is_err()
            {
                return users.tell_changed(caller.user).await;
            }
            users.set_block(caller.user, user, None).await
        })
        .await
    }

    /// Another server may have changed them a moment ago.
    fn forget_blocks_elsewhere(&self, user: UserId) {
        if self.cluster.get().is_some() {
            self.blocks.forget(&user);
        }
    }

    /// Whom I have blocked.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn blocks(&self, caller: Caller) -> Result<Blocks, Problem> {
        let users = self.blocked_by(caller.user).await?.to_vec();
        Ok(Blocks { users })
    }

    /// Whether one of the two blocked the other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn either_blocked(&self, one: UserId, other: UserId) -> Result<bool, Problem> {
        Ok(self.blocked_by(one).await?.binary_search(&other).is_ok()
            || self.blocked_by(other).await?.binary_search(&one).is_ok())
    }

    async fn set_block(
        &self,
        user: UserId,
        blocked: UserId,
        value: Option<Vec<u8>>,
    ) -> Result<(), Problem> {
        let key = record::block_key(user, blocked);
        let written = self.put(DocumentKind::Block, key, value).await;
        self.blocks.forget(&user);
        self.visibility_changed(user);
        written?;
        self.tell_changed(user).await
    }

    /// In the order of their ids.
    async fn blocked_by(&self, user: UserId) -> Result<Arc<Vec<UserId>>, Problem> {
        let blocked = self
            .blocks
            .get_or_load(&user, async {
                self.read_blocks(user).await.map(|all| Some(Arc::new(all)))
            })
            .await?;
        Ok(blocked.unwrap_or_default())
    }

    async fn read_blocks(&self, user: UserId) -> Result<Vec<UserId>, Problem> {
        let mut blocked = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .store
                .scan_documents(DocumentKind::Block, user.0.to_vec(), after, PAGE)
                .await
                .map_err(store_failed)?;
            for document in &page {
                blocked.push(record::blocked_of_key(&document.key).map_err(damaged)?);
            }
            if page.len() < PAGE {
                return Ok(blocked);
            }
            after = page.last().map(|document| document.key.clone());
        }
    }
}
