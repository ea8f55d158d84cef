//! When each device was last seen: kept in memory, written to its document late and seldom, so that
//! heartbeats cost no disk writes. A crash forgets at most `last_seen_write_s`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tidings_core::{DeviceId, Time, UserId};
use tidings_protocol::Problem;
use tidings_store::{DocumentKind, PutDocument, PutError};

use super::{Users, damaged, finish, record, store_failed};
use crate::session::Caller;

/// Devices that are looked at under one lock, and documents that are written at the same time.
const LOOK: usize = 4_096;
const WRITES: usize = 64;

type Key = (UserId, DeviceId);

#[derive(Debug)]
pub(super) struct LastSeen {
    seen: Mutex<BTreeMap<Key, Seen>>,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Time,
    /// Not written yet.
    waits: bool,
    /// Since when it waits or nothing has happened.
    since: Time,
}

impl LastSeen {
    pub(super) fn new(max: usize) -> LastSeen {
        LastSeen {
            seen: Mutex::default(),
            max,
        }
    }

    /// Answers whether the device had been seen not long before.
    fn touch(&self, caller: Caller, now: Time) -> bool {
        let mut all = self.lock();
        let full = all.len() >= self.max;
        let key = (caller.user, caller.device);
        if let Some(seen) = all.get_mut(&key) {
            seen.at = seen.at.max(now);
            seen.waits = true;
            return true;
        }
        if !full {
            let seen = Seen {
                at: now,
                waits: true,
                since: now,
            };
            all.insert(key, seen);
        }
        false
    }

    /// When a device was seen, if that is not long written.
    pub(super) fn of_device(&self, user: UserId, device: DeviceId) -> Option<Time> {
        self.lock().get(&(user, device)).map(|seen| seen.at)
    }

    /// When the last of a user's devices was seen, if that is not long written.
    pub(super) fn of_user(&self, user: UserId) -> Option<Time> {
        let range = (user, DeviceId([0; 16]))..=(user, DeviceId([0xff; 16]));
        self.lock().range(range).map(|(_, seen)| seen.at).max()
    }

    pub(super) fn forget(&self, caller: Caller) {
        self.lock().remove(&(caller.user, caller.device));
    }

    /// What is to be written: what waits for `wait_ms`. What was written as long ago is forgotten.
    fn due(&self, now: Time, wait_ms: u64) -> Vec<(Key, Time)> {
        let mut due = Vec::new();
        let mut after = Bound::Unbounded;
        loop {
            let mut all = self.lock();
            let mut idle = Vec::new();
            let mut last = None;
            for (key, seen) in all.range((after, Bound::Unbounded)).take(LOOK) {
                last = Some(*key);
                if now.millis_since(seen.since) >= wait_ms {
                    if seen.waits {
                        due.push((*key, seen.at));
                    } else {
                        idle.push(*key);
                    }
                }
            }
            for key in idle {
                all.remove(&key);
            }
            match last {
                Some(key) => after = Bound::Excluded(key),
                None => return due,
            }
        }
    }

    fn written(&self, key: Key, at: Time, now: Time) {
        if let Some(seen) = self.lock().get_mut(&key) {
            seen.waits = seen.at > at;
            seen.since = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    /// A device is there. Answers whether it was there not long before (`users.last_seen_write_s`).
    pub fn touch(&self, caller: Caller) -> bool {
        self.last_seen.touch(caller, self.clock.now())
    }

    /// When a user was last seen with any device.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn last_seen(&self, user: UserId) -> Result<Option<Time>, Problem> {
        let Some(account) = self.account(user).await? else {
            return Ok(None);
        };
        let devices = self.devices_of(user).await?;
        let stored = devices.iter().map(|(_, device)| device.last_seen).max();
        Ok(stored
            .max(self.last_seen.of_user(user))
            .max(Some(account.last_seen)))
    }

    /// Writes what waits, for as long as the server runs. Spawn it once.
    pub async fn keep(self: Arc<Self>) {
        if let Err(problem) = self.passwords.warm_up().await {
            tracing::warn!(?problem, "the password hasher did not warm up");
        }
        let wait_ms = self.settings.last_seen_write_s.max(1) * 1_000;
        loop {
            tokio::time::sleep(Duration::from_millis((wait_ms / 4).clamp(250, 60_000))).await;
            self.write_last_seen(wait_ms).await;
        }
    }

    /// Writes all that waits: at the end.
    pub async fn flush(self: &Arc<Self>) {
        self.write_last_seen(0).await;
    }

    pub(super) async fn write_last_seen(self: &Arc<Self>, wait_ms: u64) {
        let due = self.last_seen.due(self.clock.now(), wait_ms);
        stream::iter(due)
            .for_each_concurrent(WRITES, |(key, at)| async move {
                let users = self.clone();
                let written = finish(async move { users.write_seen(key, at).await }).await;
                if written.is_ok() {
                    self.last_seen.written(key, at, self.clock.now());
                }
            })
            .await;
    }

    async fn write_seen(&self, (user, device): Key, at: Time) -> Result<(), Problem> {
        let caller = Caller { user, device };
        let key = record::device_key(caller);
        let Some(document) = self.document(DocumentKind::Device, key.clone()).await? else {
            self.last_seen.forget(caller);
            return Ok(());
        };
        let mut device = record::decode_device(&document.value).map_err(damaged)?;
        if device.last_seen >= at {
            return Ok(());
        }
        device.last_seen = at;
        let put = PutDocument {
            kind: DocumentKind::Device,
            key,
            // A device that is logged out meanwhile does not come back.
            expected: Some(document.version),
            value: Some(record::encode_device(&device)),
        };
        let outcome = self.store.put_document(put).await;
        self.devices.forget(&user);
        match outcome {
            Ok(_) => Ok(()),
            Err(PutError::Conflict { .. }) => Err(Problem::new(tidings_protocol::Code::Busy)),
            Err(PutError::Store(error)) => Err(store_failed(error)),
        }
    }
}
