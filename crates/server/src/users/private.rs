//! A user's private map (drafts, mutes, stars): values by key of which the last written counts, pushed to
//! the user's other devices.

use std::sync::Arc;

use tidings_core::UserId;
use tidings_protocol::session::{Private, PrivateItem, PrivateRequest, PutPrivate};
use tidings_protocol::{Code, Problem, ServerFrame};
use tidings_store::DocumentKind;

use super::{Users, damaged, finish, record, store_failed};
use crate::session::{Caller, Event};

impl Users {
    /// Writes or removes a value and tells my other devices. They are told in the order in which the
    /// values were written.
    ///
    /// # Errors
    /// `too_much`, `invalid`.
    pub async fn put_private(
        self: &Arc<Self>,
        caller: Caller,
        put: PutPrivate,
    ) -> Result<(), Problem> {
        let settings = &self.settings;
        if put.key.is_empty() {
            return Err(Problem::new(Code::Invalid).detail("The key is empty."));
        }
        if put.key.len() > settings.private_key_bytes_max {
            let max = settings.private_key_bytes_max as u64;
            return Err(Problem::too_much("private_key_bytes_max", max));
        }
        let length = put.value.as_ref().map_or(0, String::len);
        if length > settings.private_value_bytes_max {
            let max = settings.private_value_bytes_max as u64;
            return Err(Problem::too_much("private_value_bytes_max", max));
        }
        let users = self.clone();
        finish(async move {
            let _lock = users.lock(caller.user).await;
            users.write_private(caller.user, &put).await?;
            if let Some(cluster) = users.cluster.get() {
                cluster.tell_private(caller.user, &put.key, caller.device);
            }
            if let Some(hub) = users.hub.user(caller.user) {
                let item = PrivateItem {
                    key: put.key,
                    value: put.value,
                };
                let changed = ServerFrame::Private(Private {
                    id: None,
                    items: vec![item],
                    more: false,
                });
                hub.push(&Event::new(changed), Some(caller.device));
            }
            Ok(())
        })
        .await
    }

    /// Under the user's lock.
    async fn write_private(&self, user: UserId, put: &PutPrivate) -> Result<(), Problem> {
        let key = record::private_key(user, &put.key);
        let is_there = self
            .document(DocumentKind::Private, key.clone())
            .await?
            .is_some();
        let value = put.value.as_deref().map(record::encode_private);
        let keys = self
            .private_keys
            .get_or_load(&user, async { self.count_private(user).await.map(Some) })
            .await?
            .unwrap_or(0);
        let max = self.settings.private_keys_max;
        let keys = match (is_there, value.is_some()) {
            (false, false) => return Ok(()),
            (false, true) if keys >= max => {
                return Err(Problem::too_much("private_keys_max", max as u64));
            }
            (false, true) => keys + 1,
            (true, true) => keys,
            (true, false) => keys.saturating_sub(1),
        };
        let written = self.put(DocumentKind::Private, key, value).await;
        match written {
            Ok(()) => self.private_keys.replace(&user, keys),
            Err(_) => self.private_keys.forget(&user),
        }
        written
    }

    async fn count_private(&self, user: UserId) -> Result<usize, Problem> {
        let limit = self.settings.private_keys_max;
        let documents = self
            .store
            .scan_documents(DocumentKind::Private, user.0.to_vec(), None, limit)
            .await
            .map_err(store_failed)?;
        Ok(documents.len())
    }

    /// A page of my private map.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn private(
        &self,
        caller: Caller,
        request: PrivateRequest,
    ) -> Result<Private, Problem> {
        let user = caller.user;
        let limit = self.settings.private_page_keys_max.max(1);
        let after = request.after.map(|after| record::private_key(user, &after));
        let documents = self
            .store
            .scan_documents(DocumentKind::Private, user.0.to_vec(), after, limit + 1)
            .await
            .map_err(store_failed)?;
        let mut items = Vec::with_capacity(documents.len().min(limit));
        let mut bytes = 0;
        let mut more = false;
        for document in &documents {
            bytes += document.key.len() + document.value.len();
            let full = bytes > self.settings.private_page_bytes_max && !items.is_empty();
            if items.len() == limit || full {
                more = true;
                break;
            }
            let (key, value) =
                record::decode_private(&document.key, &document.value).map_err(damaged)?;
            items.push(PrivateItem {
                key,
                value: Some(value),
            });
        }
        Ok(Private {
            id: Some(request.id),
            items,
            more,
        })
    }
}
