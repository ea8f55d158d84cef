//! Two servers that append to the same conversation take turns.
//!
//! Usually one server appends to a conversation (`cluster`, affinity). Where they cannot agree on which, whoever
//! loses has to read what the winner wrote before it tries again, and a winner that goes on at once wins again: the
//! other's senders would wait for as long as there is something to say. So whoever has appended leaves the other time
//! to do so; what comes meanwhile goes into the next append together.

use std::time::{Duration, Instant};

use super::{Chat, Conversation};
use crate::clock::random;

/// For so long after somebody else's append turns are taken.
const MET_FOR: Duration = Duration::from_secs(5);
/// The loser reads and decides again before it appends, for which it needs about twice as long as an append. A pause
/// is between once and three times as long, so that two do not go on in step.
const SHARES: (f64, f64) = (1.0, 3.0);
/// How often the log of a large group is looked at for those who are connected here.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is known of others who append to a conversation.
#[derive(Default)]
pub(super) struct Turns {
    met: Option<Instant>,
    /// When the log was last looked at for what others appended.
    looked: Option<Instant>,
}

impl Turns {
    /// Somebody else has appended.
    pub(super) fn met(&mut self) {
        self.met = Some(Instant::now());
    }

    /// Whether the log is to be looked at, which is then done.
    pub(super) fn may_look(&mut self) -> bool {
        let is_due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if is_due {
            self.looked = Some(Instant::now());
        }
        is_due
    }

    fn are_taken(&self) -> bool {
        self.met.is_some_and(|met| met.elapsed() < MET_FOR)
    }
}

/// How long to pause after an append that took so long; `chance` is between 0 and 1.
fn pause(took: Duration, chance: f64) -> Duration {
    let (least, most) = SHARES;
    took.mul_f64(least + (most - least) * chance).min(PAUSE_MAX)
}

impl Chat {
    /// After an append that took so long: waits, if another server may be about to append to the same conversation.
    pub(super) async fn give_way(&self, conversation: &Conversation, took: Duration) {
        let Some(others) = self.others.get() else {
            return;
        };
        if others.cannot_agree() || conversation.queue().turns.are_taken() {
            let chance = f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX);
            tokio::time::sleep(pause(took, chance)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_leaves_time_for_another_append_and_ends() {
        let took = Duration::from_millis(100);
        assert_eq!(pause(took, 0.0), took);
        assert_eq!(pause(took, 1.0), took * 3);
        assert_eq!(pause(Duration::from_secs(9), 0.5), PAUSE_MAX);
    }
}
