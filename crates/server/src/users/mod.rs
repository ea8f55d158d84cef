//! Accounts: signing up, logging in, devices and their tokens, profiles, blocks, the private map.
//!
//! All of it is documents of the store (`record` has their forms). Three rules hold it together:
//!
//! * **A username belongs to whom its claim names**; the claim is written before the account and
//!   confirmed after it (`sign_up`).
//! * **A device's document makes its token valid.** The token's own document only leads to it, so that
//!   logging in and revoking are one durable step each (`device`).
//! * **What changes documents runs to its end** even if whoever asked hangs up (`finish`): otherwise a
//!   cache could keep what the store no longer has. What is read is cached only if nothing changed
//!   meanwhile (`cache`).

mod block;
mod cache;
pub mod cookie;
mod device;
mod elsewhere;
mod guess;
mod last_seen;
mod log_in;
mod password;
mod private;
mod profile;
mod record;
mod sign_up;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tidings_core::codec::DecodeError;
use tidings_core::{DeviceId, Time, UserId};
use tidings_protocol::{Code, Problem};
use tidings_store::{DocumentKind, PutDocument, PutError, Store, StoreError};
use tokio::sync::{Mutex, MutexGuard};

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::UsersSettings;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::session::Caller;

use cache::Cache;
use guess::Guesses;
use last_seen::LastSeen;
use password::Passwords;
use record::{Account, DeviceRecord, UserRecord};

/// Changes of one user's account wait for each other; so many users' can go on at once.
const LOCKS: usize = 64;
/// How often a document that somebody else changed meanwhile is tried again.
const TRIES: usize = 16;

/// A device as the conversations need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceSeen {
    /// Which.
    pub device: DeviceId,
    /// When it logged in.
    pub created: Time,
    /// When it was last connected.
    pub last_seen: Time,
}

/// What accounts need of the rest of the server.
pub trait Neighbours: Send + Sync + 'static {
    /// A device has logged in: it starts at its user's delivered marks.
    fn device_added(&self, caller: Caller) -> BoxFuture<'_, Result<(), Problem>>;
    /// A device was logged out: it is owed nothing more.
    fn device_removed(&self, caller: Caller) -> BoxFuture<'_, ()>;
    /// Whether two users share a conversation: they are each other's contacts.
    fn share_conversation(
        &self,
        one: UserId,
        other: UserId,
    ) -> BoxFuture<'_, Result<bool, Problem>>;
    /// A user changed who may see it, or whom it blocks.
    fn visibility_changed(&self, user: UserId);
}

/// All accounts.
pub struct Users {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    clock: Clock,
    settings: UsersSettings,
    /// Where clients are told to connect, best first.
    gateways: Vec<String>,
    metrics: Arc<Metrics>,
    passwords: Passwords,
    username_guesses: Guesses<String>,
    address_guesses: Guesses<IpAddr>,
    address_sign_ups: Guesses<IpAddr>,
    accounts: Cache<UserId, Arc<Account>>,
    usernames: Cache<String, UserId>,
    tokens: Cache<[u8; 32], Caller>,
    devices: Cache<UserId, Arc<Vec<(DeviceId, DeviceRecord)>>>,
    blocks: Cache<UserId, Arc<Vec<UserId>>>,
    private_keys: Cache<UserId, usize>,
    last_seen: LastSeen,
    locks: Vec<Mutex<()>>,
    neighbours: OnceLock<Arc<dyn Neighbours>>,
    /// The other servers, where several share the store.
    cluster: OnceLock<Arc<Cluster>>,
}

impl Users {
    /// The accounts in this store. `gateways` is where clients are told to connect.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        clock: Clock,
        settings: UsersSettings,
        gateways: Vec<String>,
        metrics: Arc<Metrics>,
    ) -> Arc<Users> {
        let remembered = settings.guesses_remembered_max;
        let cached = settings.users_cached_max;
        Arc::new(Users {
            store,
            hub,
            clock,
            gateways,
            passwords: Passwords::new(&settings, metrics.clone()),
            username_guesses: Guesses::new(
                "username_failures_burst_max",
                settings.username_failures_burst_max,
                settings.username_failure_interval_ms,
                remembered,
            ),
            address_guesses: Guesses::new(
                "address_failures_burst_max",
                settings.address_failures_burst_max,
                settings.address_failure_interval_ms,
                remembered,
            ),
            address_sign_ups: Guesses::new(
                "address_sign_ups_burst_max",
                settings.address_sign_ups_burst_max,
                settings.address_sign_up_interval_ms,
                remembered,
            ),
            accounts: Cache::new(cached),
            usernames: Cache::new(cached),
            tokens: Cache::new(settings.tokens_cached_max),
            devices: Cache::new(cached),
            blocks: Cache::new(cached),
            private_keys: Cache::new(cached),
            last_seen: LastSeen::new(settings.last_seen_waiting_max),
            locks: (0..LOCKS).map(|_| Mutex::default()).collect(),
            neighbours: OnceLock::new(),
            cluster: OnceLock::new(),
            metrics,
            settings,
        })
    }

    /// Says who the neighbours are, once, before the first request.
    pub fn set_neighbours(&self, neighbours: Arc<dyn Neighbours>) {
        if self.neighbours.set(neighbours).is_err() {
            tracing::error!("the accounts were told twice who their neighbours are");
        }
    }

    /// Says once, before the first request, that other servers share the store.
    pub fn set_cluster(&self, cluster: Arc<Cluster>) {
        if self.cluster.set(cluster).is_err() {
            tracing::error!("the accounts were told twice who the other servers are");
        }
    }

    /// Password hashes that are computed or wait for it.
    #[must_use]
    pub fn passwords_asked(&self) -> usize {
        self.passwords.asked()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &UsersSettings {
        &self.settings
    }

    /// Whether two users share a conversation.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn are_contacts(&self, one: UserId, other: UserId) -> Result<bool, Problem> {
        match self.neighbours.get() {
            Some(neighbours) => neighbours.share_conversation(one, other).await,
            None => Ok(false),
        }
    }

    fn visibility_changed(&self, user: UserId) {
        if let Some(neighbours) = self.neighbours.get() {
            neighbours.visibility_changed(user);
        }
    }

    async fn lock(&self, user: UserId) -> MutexGuard<'_, ()> {
        // The last byte of an id is random; LOCKS divides 256.
        self.locks[usize::from(user.0[15]) % LOCKS].lock().await
    }

    /// What is known of a user, `None` if there is none.
    async fn account(&self, user: UserId) -> Result<Option<Arc<Account>>, Problem> {
        self.accounts
            .get_or_load(&user, async {
                Ok(self
                    .user_record(user)
                    .await?
                    .map(|(_, record)| Arc::new(record.account)))
            })
            .await
    }

    /// A user's document and its version.
    async fn user_record(&self, user: UserId) -> Result<Option<(u64, UserRecord)>, Problem> {
        let Some(document) = self.document(DocumentKind::User, user.0.to_vec()).await? else {
            return Ok(None);
        };
        let record = record::decode_user(&document.value).map_err(damaged)?;
        Ok(Some((document.version, record)))
    }

    /// Changes a user's document, again and again until nobody was faster. Run it inside [`finish`].
    async fn update_user(
        &self,
        user: UserId,
        mut change: impl FnMut(&mut UserRecord) -> Result<(), Problem>,
    ) -> Result<Arc<Account>, Problem> {
        for _ in 0..TRIES {
            let Some((version, mut record)) = self.user_record(user).await? else {
                return Err(Problem::new(Code::NotFound));
            };
            change(&mut record)?;
            let put = PutDocument {
                kind: DocumentKind::User,
                key: user.0.to_vec(),
                expected: Some(version),
                value: Some(record::encode_user(&record)),
            };
            let outcome = self.store.put_document(put).await;
            self.accounts.forget(&user);
            match outcome {
                Ok(_) => {
                    self.tell_changed(user).await?;
                    return Ok(Arc::new(record.account));
                }
                Err(PutError::Conflict { .. }) => {}
                Err(PutError::Store(error)) => return Err(store_failed(error)),
            }
        }
        Err(Problem::new(Code::Busy))
    }

    async fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> Result<Option<tidings_store::Document>, Problem> {
        self.store.document(kind, key).await.map_err(store_failed)
    }

    /// Writes a document whatever is there.
    async fn put(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), Problem> {
        let put = PutDocument {
            kind,
            key,
            expected: None,
            value,
        };
        match self.store.put_document(put).await {
            Ok(_) => Ok(()),
            // Nothing was expected.
            Err(PutError::Conflict { .. }) => Err(Problem::new(Code::Busy)),
            Err(PutError::Store(error)) => Err(store_failed(error)),
        }
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

/// Runs work in a task of its own: to its end, whether or not somebody still waits for it.
async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change of an account did not end");
        Err(Problem::new(Code::Internal))
    })
}

fn store_failed(error: StoreError) -> Problem {
    crate::metrics::store_failed(&error);
    tracing::error!(%error, "the store failed");
    Problem::new(Code::Internal)
}

fn damaged(error: DecodeError) -> Problem {
    tracing::error!(%error, "a document cannot be read");
    Problem::new(Code::Internal)
}
