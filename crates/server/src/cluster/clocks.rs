//! Clocks: those of the servers and of the store are compared, and a server whose own is wrong steps aside.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidings_core::Time;
use tidings_protocol::Code;

use super::{CLOCK_APART_MS, Cluster};

/// How often the clock is compared with the store's, and how long that may take.
const COMPARE: Duration = Duration::from_secs(5);
const COMPARE_MAX: Duration = Duration::from_secs(2);
/// One of so many sessions is sent away with each heartbeat, when all must go.
const SENT_AWAY: usize = 5;

/// Tells the time by the store's clock.
pub type StoreTime = Arc<dyn Fn() -> BoxFuture<'static, Option<Time>> + Send + Sync>;

impl Cluster {
    /// Compares this server's clock with the store's. Beside the heartbeat: a store may take its time.
    pub(super) async fn keep_comparing(&self, store_time: Option<StoreTime>) {
        let Some(store_time) = store_time else {
            return;
        };
        loop {
            let before = self.clock.now();
            let asked = tokio::time::timeout(COMPARE_MAX, store_time()).await;
            let after = self.clock.now();
            if let Ok(Some(theirs)) = asked {
                let ours = before.0 + after.0.saturating_sub(before.0) / 2;
                let ahead = i64::try_from(theirs.0).unwrap_or(0) - i64::try_from(ours).unwrap_or(0);
                *self.store_ahead_ms() = Some(ahead);
            }
            tokio::time::sleep(COMPARE).await;
        }
    }

    /// A server whose clock is far from the others' steps aside, and says why.
    pub(super) fn judge_clock(&self) {
        let store = *self.store_ahead_ms();
        let ahead_ms = self.peers().clock_ahead_ms(store);
        self.metrics.clock_ahead_ms(ahead_ms);
        let is_off = ahead_ms.unsigned_abs() > CLOCK_APART_MS;
        if is_off {
            let words = if ahead_ms > 0 { "ahead of" } else { "behind" };
            self.health.unfit(
                "clock",
                &format!(
                    "this server's clock is {} s {words} the others': it takes no sends until that is mended",
                    ahead_ms.unsigned_abs() / 1_000
                ),
            );
        } else {
            self.health.well("clock");
        }
        if self.is_off.swap(is_off, Ordering::Relaxed) != is_off && is_off {
            tracing::error!(ahead_ms, "the clock is wrong: stepping aside");
        }
    }

    /// While the clock is wrong the sessions go elsewhere, a few at a time.
    pub(super) fn send_away(&self) {
        if !self.is_off.load(Ordering::Relaxed) {
            return;
        }
        let sessions = self.hub.all_sessions();
        let some = sessions.len().div_ceil(SENT_AWAY);
        for session in sessions.into_iter().take(some) {
            session.close(Code::Draining);
        }
    }

    fn store_ahead_ms(&self) -> MutexGuard<'_, Option<i64>> {
        let locked = self.store_ahead_ms.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}
