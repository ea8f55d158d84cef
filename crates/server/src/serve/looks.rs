//! What the metrics look at when somebody asks for them: queues, health, the disk. Weakly held, as the parts hold the
//! metrics.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidings_store_embedded::Backlog;

use super::Parts;
use crate::hub::Hub;
use crate::metrics::{Look, Metrics, space_of};

/// What waits in the store; `None` if the store is gone.
pub(super) type StoreBacklog = Box<dyn Fn() -> Option<Backlog> + Send + Sync>;

impl Parts {
    /// Has the metrics look at these parts, and at the disk under `data` if the store is there.
    pub(super) fn be_looked_at(&self, store: Option<StoreBacklog>, data: &Path) {
        let mut looks = vec![self.look_at_health(), self.look_at_conversations()];
        let (hub, users) = (Arc::downgrade(&self.hub), Arc::downgrade(&self.users));
        looks.push(Box::new(move |metrics| {
            if let Some(hub) = hub.upgrade() {
                look_at_sessions(metrics, &hub);
            }
            if let Some(users) = users.upgrade() {
                metrics.queue_depth("passwords", users.passwords_asked());
            }
        }));
        if let Some(cluster) = self.cluster.as_ref().map(Arc::downgrade) {
            looks.push(Box::new(move |metrics| {
                if let Some(cluster) = cluster.upgrade() {
                    metrics.peers(cluster.peers_count());
                    metrics.wire_queue_depth(cluster.waiting());
                }
            }));
        }
        if let Some(store) = store {
            let data = data.to_owned();
            looks.push(Box::new(move |metrics| {
                if let Some(backlog) = store() {
                    metrics.queue_depth("commit", backlog.commits);
                    metrics.queue_depth("reads", backlog.reads);
                    metrics.queue_age("commit", backlog.oldest_commit);
                }
                if let Ok(space) = space_of(&data) {
                    metrics.disk(space);
                }
            }));
        }
        self.metrics.set_looks(looks);
    }

    fn look_at_health(&self) -> Look {
        let (health, not_ready) = (self.health.clone(), self.not_ready.clone());
        Box::new(move |metrics| {
            for (part, condition) in health.parts() {
                metrics.health(part, condition);
            }
            metrics.ready(health.is_fit() && !not_ready.load(Ordering::Relaxed));
        })
    }

    fn look_at_conversations(&self) -> Look {
        let chat = Arc::downgrade(&self.chat);
        Box::new(move |metrics| {
            if let Some(chat) = chat.upgrade() {
                let backlog = chat.backlog(Instant::now());
                metrics.conversations_in_memory(backlog.conversations);
                metrics.queue_depth("commands", backlog.commands);
                metrics.queue_age("commands", backlog.oldest);
            }
        })
    }
}

fn look_at_sessions(metrics: &Metrics, hub: &Hub) {
    let (mut waiting, mut fullest) = (0, 0.0);
    for session in hub.all_sessions() {
        let (frames, fullness) = session.fullness();
        waiting += frames;
        fullest = f64::max(fullest, fullness);
    }
    metrics.queue_depth("sessions", waiting);
    metrics.session_queue_fullest(fullest);
}
