//! Accounts on several servers: what changes here is written down for all, and what changed elsewhere is
//! forgotten here.

use std::sync::Arc;
use std::time::Duration;

use tidings_core::{DeviceId, UserId};
use tidings_protocol::session::{Private, PrivateItem};
use tidings_protocol::{Code, Problem, ServerFrame};
use tidings_store::DocumentKind;

use super::{Users, record, store_failed};
use crate::cluster::Notice;
use crate::session::{Caller, Event};

/// A notice is written before what it tells of: when it is looked at again.
const AGAIN: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// The store did not answer: when it is asked again.
const UNANSWERED: Duration = Duration::from_secs(1);

impl Users {
    /// Tells the other servers that something of a user's account, devices or blocks changed.
    pub(super) async fn tell_changed(&self, user: UserId) -> Result<(), Problem> {
        self.tell_all(Notice::Changed(user)).await
    }

    /// Tells the other servers that a device is being logged out.
    pub(super) async fn tell_revoked(
        &self,
        caller: Caller,
        token: [u8; 32],
    ) -> Result<(), Problem> {
        self.tell_all(Notice::Revoked { caller, token }).await
    }

    async fn tell_all(&self, notice: Notice) -> Result<(), Problem> {
        match self.cluster.get() {
            Some(cluster) => cluster.notice(notice).await.map_err(store_failed),
            None => Ok(()),
        }
    }

    /// Something was written down at this server or another.
    pub async fn heard(self: &Arc<Self>, notice: Notice) {
        match notice {
            Notice::Changed(user) => {
                self.forget_all_of(user);
                if let Err(problem) = self.tell_hub(user).await {
                    tracing::warn!(
                        code = problem.code.name(),
                        "a change of privacy waits for the next session"
                    );
                }
                self.visibility_changed(user);
            }
            Notice::Revoked { caller, token } => {
                let mut looks = [Duration::ZERO].into_iter().chain(AGAIN);
                let mut pause = looks.next();
                while let Some(wait) = pause {
                    tokio::time::sleep(wait).await;
                    self.tokens.forget(&token);
                    self.forget_all_of(caller.user);
                    let key = record::device_key(caller);
                    pause = match self.document(DocumentKind::Device, key).await {
                        Ok(None) => {
                            self.hub
                                .close_device(caller.user, caller.device, Code::Revoked);
                            self.last_seen.forget(caller);
                            return;
                        }
                        Ok(Some(_)) => looks.next(),
                        // Until the store says whether the device is there, this is not done.
                        Err(_) => Some(UNANSWERED),
                    };
                }
            }
        }
    }

    fn forget_all_of(&self, user: UserId) {
        self.accounts.forget(&user);
        self.devices.forget(&user);
        self.blocks.forget(&user);
        self.private_keys.forget(&user);
    }

    /// A key of a private map changed elsewhere: the user's sessions here are told what is there now. Read
    /// anew, so that of two who wrote at the same time all devices end with the same.
    pub async fn heard_private(self: &Arc<Self>, user: UserId, key: String, except: DeviceId) {
        let _lock = self.lock(user).await;
        self.private_keys.forget(&user);
        let stored = record::private_key(user, &key);
        let (Ok(document), Some(hub)) = (
            self.document(DocumentKind::Private, stored).await,
            self.hub.user(user),
        ) else {
            return;
        };
        let value = document.and_then(|document| {
            let read = record::decode_private(&document.key, &document.value);
            read.ok().map(|(_, value)| value)
        });
        let changed = ServerFrame::Private(Private {
            id: None,
            items: vec![PrivateItem { key, value }],
            more: false,
        });
        hub.push(&Event::new(changed), Some(except));
    }

    /// Where clients are told to connect, best first.
    pub(super) fn gateways(&self) -> Vec<String> {
        let addresses = self.cluster.get().map(|cluster| cluster.addresses());
        match addresses.filter(|addresses| !addresses.is_empty()) {
            Some(addresses) => addresses,
            None => self.gateways.clone(),
        }
    }
}
