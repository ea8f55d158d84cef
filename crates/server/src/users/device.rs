//! Devices and their session tokens: 32 random bytes, stored as their BLAKE3 hash.
//!
//! A token is valid while its device's document names its hash. Logging in writes the token's document,
//! then the device's; revoking deletes the device's, then the token's. Whatever happens in between, there
//! is never a valid token that no list of devices shows.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidings_core::time::DAY_MILLIS;
use tidings_core::{DeviceId, Time, UserId};
use tidings_protocol::account::{Device, Devices};
use tidings_protocol::{Code, Problem};
use tidings_store::{DocumentKind, PutDocument, PutError};

use super::record::{self, DeviceRecord};
use super::{DeviceSeen, TRIES, Users, damaged, finish, profile, store_failed};
use crate::clock::random;
use crate::session::Caller;

/// Documents in one read of the store.
const PAGE: usize = 256;

impl Users {
    /// Whose token this is. What it answers is true at some moment during the call; who opens a session
    /// asks once more after opening it, so that a device revoked in between does not slip in.
    ///
    /// # Errors
    /// `unauthorized` for a token that is malformed, unknown or revoked.
    pub async fn authenticate(&self, token: &str) -> Result<Caller, Problem> {
        let refused = || Problem::new(Code::Unauthorized);
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| refused())?;
        if bytes.len() != 32 {
            return Err(refused());
        }
        let hash = *blake3::hash(&bytes).as_bytes();
        self.tokens
            .get_or_load(&hash, self.caller_of(&hash))
            .await?
            .ok_or_else(refused)
    }

    async fn caller_of(&self, hash: &[u8; 32]) -> Result<Option<Caller>, Problem> {
        let Some(document) = self.document(DocumentKind::Token, hash.to_vec()).await? else {
            return Ok(None);
        };
        let caller = record::decode_caller(&document.value).map_err(damaged)?;
        let key = record::device_key(caller);
        let Some(document) = self.document(DocumentKind::Device, key).await? else {
            return Ok(None);
        };
        let device = record::decode_device(&document.value).map_err(damaged)?;
        Ok((device.token == *hash).then_some(caller))
    }

    /// My devices, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn devices(&self, caller: Caller) -> Result<Devices, Problem> {
        let stored = self.devices_of(caller.user).await?;
        let device = |(id, record): &(DeviceId, DeviceRecord)| Device {
            device: *id,
            name: record.name.clone(),
            created: record.created,
            last_seen: self.seen(caller.user, *id, record),
            current: *id == caller.device,
        };
        let mut devices: Vec<Device> = stored.iter().map(device).collect();
        devices.sort_by_key(|device| (device.created, device.device));
        Ok(Devices { devices })
    }

    /// A user's devices and when they were last seen. Cheap: from memory as a rule.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_records(&self, user: UserId) -> Result<Vec<DeviceSeen>, Problem> {
        let stored = self.devices_of(user).await?;
        let device = |(id, record): &(DeviceId, DeviceRecord)| DeviceSeen {
            device: *id,
            created: record.created,
            last_seen: self.seen(user, *id, record),
        };
        Ok(stored.iter().map(device).collect())
    }

    /// As [`Users::device_records`], as the store has them: for what must not miss one that logged in at another
    /// server a moment ago.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_records_now(&self, user: UserId) -> Result<Vec<DeviceSeen>, Problem> {
        if self.cluster.get().is_some() {
            self.devices.forget(&user);
        }
        self.device_records(user).await
    }

    fn seen(&self, user: UserId, device: DeviceId, record: &DeviceRecord) -> Time {
        let recent = self.last_seen.of_device(user, device);
        recent.map_or(record.last_seen, |recent| recent.max(record.last_seen))
    }

    pub(super) async fn devices_of(
        &self,
        user: UserId,
    ) -> Result<Arc<Vec<(DeviceId, DeviceRecord)>>, Problem> {
        let devices = self
            .devices
            .get_or_load(&user, async {
                self.read_devices(user).await.map(|all| Some(Arc::new(all)))
            })
            .await?;
        Ok(devices.unwrap_or_default())
    }

    async fn read_devices(&self, user: UserId) -> Result<Vec<(DeviceId, DeviceRecord)>, Problem> {
        let mut devices = Vec::new();
        let mut after = None;
        loop {
            let page = self
                .store
                .scan_documents(DocumentKind::Device, user.0.to_vec(), after, PAGE)
                .await
                .map_err(store_failed)?;
            let more = page.len() == PAGE;
            after = page.last().map(|document| document.key.clone());
            for document in page {
                let id = record::device_of_key(&document.key).map_err(damaged)?;
                let device = record::decode_device(&document.value).map_err(damaged)?;
                devices.push((id, device));
            }
            if !more {
                return Ok(devices);
            }
        }
    }

    /// Gives one of my devices another name.
    ///
    /// # Errors
    /// `not_found`; `too_much` for a name that is too long.
    pub async fn rename_device(
        self: &Arc<Self>,
        caller: Caller,
        device: DeviceId,
        name: String,
    ) -> Result<(), Problem> {
        profile::check_name(&name, self.settings.display_name_chars_max)?;
        let users = self.clone();
        finish(async move {
            let key = record::device_key(Caller { device, ..caller });
            for _ in 0..TRIES {
                let document = users.document(DocumentKind::Device, key.clone()).await?;
                let document = document.ok_or_else(|| Problem::new(Code::NotFound))?;
                let mut device = record::decode_device(&document.value).map_err(damaged)?;
                device.name.clone_from(&name);
                let put = PutDocument {
                    kind: DocumentKind::Device,
                    key: key.clone(),
                    expected: Some(document.version),
                    value: Some(record::encode_device(&device)),
                };
                let outcome = users.store.put_document(put).await;
                users.devices.forget(&caller.user);
                match outcome {
                    Ok(_) => return Ok(()),
                    Err(PutError::Conflict { .. }) => {}
                    Err(PutError::Store(error)) => return Err(store_failed(error)),
                }
            }
            Err(Problem::new(Code::Busy))
        })
        .await
    }

    /// Logs out one of my devices: its token is refused and its sessions are closed when this returns.
    ///
    /// # Errors
    /// `not_found`, if it is none of mine.
    pub async fn revoke_device(
        self: &Arc<Self>,
        caller: Caller,
        device: DeviceId,
    ) -> Result<(), Problem> {
        let users = self.clone();
        finish(async move {
            let _lock = users.lock(caller.user).await;
            users.remove_device(Caller { device, ..caller }).await
        })
        .await
    }

    /// Logs out the device that asks.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn log_out(self: &Arc<Self>, caller: Caller) -> Result<(), Problem> {
        self.revoke_device(caller, caller.device).await
    }

    /// Under the user's lock, inside [`finish`].
    pub(super) async fn remove_device(&self, caller: Caller) -> Result<(), Problem> {
        let key = record::device_key(caller);
        let Some(document) = self.document(DocumentKind::Device, key.clone()).await? else {
            return Err(Problem::new(Code::NotFound));
        };
        let device = record::decode_device(&document.value).map_err(damaged)?;
        // The user's own last seen no longer has this device to look at.
        let seen = self.seen(caller.user, caller.device, &device);
        self.update_user(caller.user, |record| {
            record.account.last_seen = record.account.last_seen.max(seen);
            Ok(())
        })
        .await?;
        self.tell_revoked(caller, device.token).await?;
        let removed = self.put(DocumentKind::Device, key, None).await;
        self.tokens.forget(&device.token);
        self.devices.forget(&caller.user);
        removed?;
        self.hub
            .close_device(caller.user, caller.device, Code::Revoked);
        self.last_seen.forget(caller);
        if let Some(neighbours) = self.neighbours.get() {
            neighbours.device_removed(caller).await;
        }
        self.put(DocumentKind::Token, device.token.to_vec(), None)
            .await
    }

    /// A new device and its token. Under the user's lock, inside [`finish`].
    pub(super) async fn add_device(
        &self,
        user: UserId,
        name: String,
    ) -> Result<(Caller, String), Problem> {
        self.make_room(user).await?;
        let now = self.clock.now();
        let device = DeviceId::new(now, random());
        let caller = Caller { user, device };
        let secret = random::<32>();
        let token = *blake3::hash(&secret).as_bytes();
        let record = DeviceRecord {
            name,
            created: now,
            last_seen: now,
            token,
        };
        let to_device = record::encode_caller(caller);
        self.put(DocumentKind::Token, token.to_vec(), Some(to_device))
            .await?;
        let added = self
            .put(
                DocumentKind::Device,
                record::device_key(caller),
                Some(record::encode_device(&record)),
            )
            .await;
        self.devices.forget(&user);
        added?;
        self.tell_changed(user).await?;
        if let Some(neighbours) = self.neighbours.get()
            && let Err(problem) = neighbours.device_added(caller).await
        {
            self.remove_device(caller).await?;
            return Err(problem);
        }
        Ok((caller, URL_SAFE_NO_PAD.encode(secret)))
    }

    /// Sees to it that a user may have one more device.
    async fn make_room(&self, user: UserId) -> Result<(), Problem> {
        let max = self.settings.devices_per_user_max.max(1);
        let mut devices = self.device_records_now(user).await?;
        if devices.len() < max {
            return Ok(());
        }
        devices.sort_by_key(|device| device.last_seen);
        let silent_ms = self
            .settings
            .device_replace_after_days
            .saturating_mul(DAY_MILLIS);
        let now = self.clock.now();
        let surplus = devices.len() + 1 - max;
        for seen in devices.iter().take(surplus) {
            if now.millis_since(seen.last_seen) < silent_ms {
                return Err(Problem::too_much("devices_per_user_max", max as u64));
            }
            let device = seen.device;
            self.remove_device(Caller { user, device }).await?;
        }
        Ok(())
    }
}
