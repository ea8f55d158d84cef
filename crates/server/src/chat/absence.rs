//! Time in which the server itself was away does not count as a device's silence.
//!
//! A server that comes back after a month would otherwise take every device for one that never returns,
//! and trim what is owed to it before the first could reconnect.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_core::Time;
use tidings_core::time::DAY_MILLIS;
use tidings_store::{DocumentKind, PutDocument, PutError, StoreError};

use super::Chat;

/// The document that says when the server was last there, and until when devices are spared.
const DOCUMENT: &[u8] = b"there";
/// How often it is written.
const SAID_EVERY: Duration = Duration::from_secs(10 * 60);
/// Away for less is a restart, not an absence.
const RESTART_MS: u64 = 60 * 60 * 1_000;

impl Chat {
    /// Finds out how long the server was away. To be called before anything is trimmed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn come_back(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let said = self
            .store
            .document(DocumentKind::Server, DOCUMENT.to_vec())
            .await?
            .and_then(|document| <[u8; 16]>::try_from(document.value.as_slice()).ok());
        if let Some(said) = said {
            let (last_there, spared_until) = times_of(said);
            let away = now.millis_since(last_there);
            let silence = self.settings.device_silent_days.saturating_mul(DAY_MILLIS);
            // Whatever a wrong clock once wrote.
            let spared_until = spared_until.min(now.plus_millis(silence));
            let spared = match away {
                0..RESTART_MS => spared_until,
                _ => spared_until.max(now.plus_millis(away.min(silence))),
            };
            self.spared_until.store(spared.0, Ordering::Relaxed);
            if spared > now {
                tracing::info!(
                    away_hours = away / 3_600_000,
                    "the server was away: no device counts as silent for as long again"
                );
            }
        }
        self.say_there().await
    }

    /// Writes down, for ever, that the server is there.
    pub(super) async fn stay_there(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(SAID_EVERY).await;
            if let Err(error) = self.say_there().await {
                tracing::error!(%error, "it could not be written down that the server is there");
            }
        }
    }

    async fn say_there(&self) -> Result<(), StoreError> {
        let spared_until = self.spared_until.load(Ordering::Relaxed);
        let mut value = self.clock.now().0.to_be_bytes().to_vec();
        value.extend(spared_until.to_be_bytes());
        let put = PutDocument {
            kind: DocumentKind::Server,
            key: DOCUMENT.to_vec(),
            expected: None,
            value: Some(value),
        };
        match self.store.put_document(put).await {
            Ok(_) | Err(PutError::Conflict { .. }) => Ok(()),
            Err(PutError::Store(error)) => Err(error),
        }
    }

    /// A device that was last heard of before this moment is owed nothing more. The beginning of time while the
    /// server makes up for its own absence: then that is no device.
    pub(super) fn silent_before(&self) -> Time {
        let now = self.clock.now();
        if now.0 < self.spared_until.load(Ordering::Relaxed) {
            return Time(0);
        }
        let silence = self.settings.device_silent_days.saturating_mul(DAY_MILLIS);
        Time(now.0.saturating_sub(silence))
    }
}

fn times_of(value: [u8; 16]) -> (Time, Time) {
    let both = u128::from_be_bytes(value);
    (Time((both >> 64) as u64), Time(both as u64))
}
