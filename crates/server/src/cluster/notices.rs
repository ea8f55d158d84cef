//! Notices: what every server must hear of within a second, whatever becomes of NATS: a device was logged out,
//! an account changed. They are documents under the minute and time at which they were written, and every server
//! reads the newest again and again; a message says only "look now".

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidings_core::codec::{DecodeError, Reader, Writer};
use tidings_core::{DeviceId, Time, UserId};
use tidings_store::{DocumentKind, PutDocument, PutError, StoreError};
use tokio::sync::Notify;

use super::Cluster;
use super::message::Message;
use super::wire::To;
use crate::clock::random;
use crate::metrics::store_failed;
use crate::session::Caller;

/// How often the newest are read.
const LOOK: Duration = Duration::from_millis(500);
/// What was written so long ago is looked for again: clocks differ, and a write takes its time.
const WINDOW_MS: u64 = 25_000;
/// So long the store keeps them.
const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Without an answer of the store for so long the server is not fit to serve.
const UNANSWERED: Duration = Duration::from_secs(10);
const MINUTE_MS: u64 = 60 * 1_000;
const PAGE: usize = 1_000;

/// What was read already.
#[derive(Default)]
pub(super) struct Seen {
    keys: Mutex<BTreeSet<Vec<u8>>>,
    look: Notify,
}

impl Seen {
    /// Another server wrote one.
    pub(super) fn look_now(&self) {
        self.look.notify_one();
    }

    /// Whether it is new; what is older than the window is forgotten.
    fn is_new(&self, key: &[u8], oldest: &[u8]) -> bool {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        *keys = keys.split_off(oldest);
        keys.insert(key.to_vec())
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A device was logged out, and its token (by its hash) is refused.
    Revoked {
        /// Which.
        caller: Caller,
        /// Of its token.
        token: [u8; 32],
    },
    /// A user's account, devices or blocks changed.
    Changed(UserId),
}

impl Notice {
    fn encode(self) -> Vec<u8> {
        let mut writer = Writer::versioned(1, 70);
        match self {
            Notice::Revoked { caller, token } => {
                writer.byte(1);
                writer.id(&caller.user.0);
                writer.id(&caller.device.0);
                writer.blob(&token);
            }
            Notice::Changed(user) => {
                writer.byte(2);
                writer.id(&user.0);
            }
        }
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Option<Notice>, DecodeError> {
        let mut reader = Reader::versioned(1, bytes)?;
        Ok(match reader.byte()? {
            1 => Some(Notice::Revoked {
                caller: Caller {
                    user: UserId(reader.id()?),
                    device: DeviceId(reader.id()?),
                },
                token: reader
                    .blob()?
                    .try_into()
                    .map_err(|_| DecodeError::Malformed)?,
            }),
            2 => Some(Notice::Changed(UserId(reader.id()?))),
            _ => None,
        })
    }
}

/// Under what a notice of this time is written: the minute (16 bytes, one partition of the store), the time and
/// something random.
fn key(at: Time, random: [u8; 8]) -> Vec<u8> {
    [
        &[0; 8][..],
        &(at.0 / MINUTE_MS).to_be_bytes(),
        &at.0.to_be_bytes(),
        &random,
    ]
    .concat()
}

impl Cluster {
    /// Writes a notice, durably, and has the others look.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn notice(&self, notice: Notice) -> Result<(), StoreError> {
        let put = PutDocument {
            kind: DocumentKind::Notice,
            key: key(self.clock.now(), random()),
            expected: None,
            value: Some(notice.encode()),
        };
        match self.store.put_document(put).await {
            Ok(_) | Err(PutError::Conflict { .. }) => {}
            Err(PutError::Store(error)) => return Err(error),
        }
        self.say(To::All, &Message::Notice);
        Ok(())
    }

    /// Reads notices for as long as the server runs.
    pub(super) async fn keep_notices(&self) {
        let mut answered = tokio::time::Instant::now();
        // What was written since the last look that succeeded began is new.
        let mut looked = self.clock.now();
        loop {
            let now = self.clock.now();
            match self.look_at_notices(looked.min(now)).await {
                Ok(()) => {
                    answered = tokio::time::Instant::now();
                    looked = now;
                    self.health.well("store");
                }
                Err(error) if answered.elapsed() >= UNANSWERED => {
                    store_failed(&error);
                    self.health.unfit("store", &error.to_string());
                }
                Err(error) => {
                    store_failed(&error);
                    self.health.degraded("store", &error.to_string());
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.notices.look.notified() => {}
            }
        }
    }

    /// Reads what was written since a time: usually a moment ago, longer if this server or the store stood still.
    async fn look_at_notices(&self, since: Time) -> Result<(), StoreError> {
        let now = self.clock.now();
        let since = since.0.max(now.0.saturating_sub(KEPT_MS));
        let oldest = Time(since.saturating_sub(WINDOW_MS));
        let from = key(oldest, [0; 8]);
        // Also of the minute that a clock ahead of ours has begun.
        let (first, last) = (
            oldest.0 / MINUTE_MS,
            now.0.saturating_add(WINDOW_MS) / MINUTE_MS,
        );
        for minute in (first..=last).map(|minute| key(Time(minute * MINUTE_MS), [0; 8])) {
            let prefix = minute.get(..16).unwrap_or_default().to_vec();
            let mut after = from.starts_with(&prefix).then(|| from.clone());
            loop {
                let page = self
                    .store
                    .scan_documents(DocumentKind::Notice, prefix.clone(), after, PAGE)
                    .await?;
                after = page.last().map(|last| last.key.clone());
                for document in &page {
                    if self.notices.is_new(&document.key, &from) {
                        self.take_notice(&document.value);
                    }
                }
                if page.len() < PAGE {
                    break;
                }
            }
        }
        Ok(())
    }

    fn take_notice(&self, bytes: &[u8]) {
        let users = self
            .services
            .get()
            .and_then(|services| services.users.upgrade());
        match (Notice::decode(bytes), users) {
            (Ok(Some(notice)), Some(users)) => {
                tokio::spawn(async move { users.heard(notice).await });
            }
            (Err(error), _) => tracing::warn!(%error, "a notice cannot be read"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_come_back_as_they_were() {
        let caller = Caller {
            user: UserId([1; 16]),
            device: DeviceId([2; 16]),
        };
        for notice in [
            Notice::Revoked {
                caller,
                token: [3; 32],
            },
            Notice::Changed(caller.user),
        ] {
            assert_eq!(Notice::decode(&notice.encode()), Ok(Some(notice)));
        }
        assert_eq!(Notice::decode(&[1, 99]), Ok(None), "of a later version");
    }

    #[test]
    fn keys_sort_by_time_within_their_minute() {
        let (one, later, next) = (
            Time(MINUTE_MS * 7),
            Time(MINUTE_MS * 7 + 5),
            Time(MINUTE_MS * 8),
        );
        assert!(key(one, [0xff; 8]) < key(later, [0; 8]));
        assert_eq!(key(one, [0; 8])[..16], key(later, [9; 8])[..16]);
        assert_ne!(key(one, [0; 8])[..16], key(next, [0; 8])[..16]);
    }

    #[test]
    fn a_notice_is_taken_once() {
        let seen = Seen::default();
        let (old, new) = (key(Time(1), [0; 8]), key(Time(9), [0; 8]));
        assert!(seen.is_new(&old, &old) && !seen.is_new(&old, &old));
        assert!(seen.is_new(&new, &new));
        assert_eq!(
            seen.keys.lock().unwrap().len(),
            1,
            "what is older is forgotten"
        );
    }
}
