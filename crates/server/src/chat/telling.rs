//! Marks that rose are told.
//!
//! In: a rise (`marks`), or what another server says of one (`heard`). Next: the sessions of those concerned, at once in
//! a direct conversation, gathered for a moment in a group, summed once a second for those who look at it in a
//! large one.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::log::Seq;
use tidings_core::mark::MarkValue;
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::ServerFrame;
use tidings_protocol::mark::{MarkStep, Marks};

use super::loaded::{Loaded, UserMarks};
use super::marks::{Raising, Rise, STEP_MILLIS};
use super::news::MovedMarks;
use super::{Chat, Conversation};
use crate::session::Event;

impl Chat {
    /// Tells those concerned that a member's marks moved: at once in a direct conversation, soon in a group.
    pub(super) fn tell_rise(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        loaded: &mut Loaded,
        raising: Raising,
        rise: &Rise,
        now: Time,
    ) {
        let Raising { caller, knows, .. } = raising;
        let (id, user) = (conversation.id, caller.user);
        if rise.moved && loaded.tells_at_once() {
            let news = tell_one(loaded, id, user, now);
            self.push_steps(conversation, loaded, vec![news], Some(user));
            self.tell_marks(conversation, loaded, user, now);
        } else if rise.moved {
            loaded.untold.insert(user);
        }
        if let Some(read) = rise.read {
            let event = own_read_event(id, loaded, user, read, now);
            let (place, part) = (loaded.place(id), loaded.part(id, user));
            self.hub.push_own(caller, knows, &event, place, part);
            self.tell_read(conversation, loaded, user, read);
        }
        self.tell_soon(conversation, loaded);
        if !loaded.steps_due.is_empty() && !loaded.stepping {
            loaded.stepping = true;
            let (chat, conversation) = (self.clone(), conversation.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(STEP_MILLIS)).await;
                chat.keep_due_steps(&conversation).await;
            });
        }
    }

    /// What another server told or the store says of a member's marks is told to the sessions here.
    pub(super) fn tell_heard(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        loaded: &mut Loaded,
        user: UserId,
        now: Time,
    ) {
        if loaded.tells_marks() {
            let news = tell_one(loaded, conversation.id, user, now);
            self.push_steps(conversation, loaded, vec![news], Some(user));
        } else {
            loaded.heard.insert(user);
            self.tell_soon(conversation, loaded);
        }
    }

    /// Tells the user's sessions here how far it has read elsewhere.
    pub(super) fn tell_own_read(
        &self,
        id: ConversationId,
        loaded: &Loaded,
        user: UserId,
        read: MarkValue,
        now: Time,
    ) {
        if let Some(hub) = self.hub.user(user) {
            let event = own_read_event(id, loaded, user, read, now);
            hub.push_with_part(&event, loaded.place(id), loaded.part(id, user));
        }
    }

    /// Has what was gathered told before long.
    fn tell_soon(self: &Arc<Self>, conversation: &Arc<Conversation>, loaded: &mut Loaded) {
        if loaded.telling || (loaded.untold.is_empty() && loaded.heard.is_empty()) {
            return;
        }
        loaded.telling = true;
        let millis = if loaded.tells_marks() {
            self.settings.gather_marks_ms
        } else {
            STEP_MILLIS
        };
        let (chat, conversation) = (self.clone(), conversation.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            chat.tell_gathered(&conversation);
        });
    }

    /// Sends steps to all who are in but one, and in the same moment moves their digests. Who hides how far
    /// it has read is told what was delivered, and nothing where only reading moved.
    fn push_steps(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        news: Vec<News>,
        except: Option<UserId>,
    ) {
        let id = conversation.id;
        let place = loaded.place(id);
        let event_of = |steps: Vec<MarkStep>| {
            (!steps.is_empty()).then(|| {
                Event::new(MovedMarks {
                    place,
                    loaded,
                    steps,
                })
            })
        };
        let event = event_of(news.iter().map(|news| news.step).collect());
        let without_shown = LazyCell::new(|| {
            let delivered = news.iter().filter(|news| news.delivered_moved);
            let step = |news: &News| MarkStep {
                shown: None,
                ..news.step
            };
            event_of(delivered.map(step).collect())
        });
        for (user, _) in loaded.present() {
            if Some(user) != except
                && let Some(hub) = self.hub.user(user)
            {
                let event = if hub.is_shown() {
                    &event
                } else {
                    &*without_shown
                };
                let part = loaded.part(id, user);
                match event {
                    Some(event) => {
                        hub.push_with_part(event, place, part);
                    }
                    None => hub.set_part(place, part),
                }
            }
        }
    }

    /// Tells the marks that were gathered: to everybody, or in a large group as a sum to those who look.
    fn tell_gathered(&self, conversation: &Conversation) {
        let Some(mut loaded) = conversation.try_loaded() else {
            return;
        };
        loaded.telling = false;
        let mut untold = std::mem::take(&mut loaded.untold);
        // Who went meanwhile is in nobody's digest any more.
        untold.retain(|user| loaded.member_in(*user).is_some());
        let now = self.clock.now();
        for user in &untold {
            self.tell_marks(conversation, &loaded, *user, now);
        }
        untold.extend(std::mem::take(&mut loaded.heard));
        untold.retain(|user| loaded.member_in(*user).is_some());
        if untold.is_empty() {
            return;
        }
        if loaded.tells_marks() {
            let news = untold
                .iter()
                .map(|user| tell_one(&mut loaded, conversation.id, *user, now))
                .collect();
            self.push_steps(conversation, &loaded, news, None);
        } else {
            for session in loaded.lookers.values() {
                let user = session.caller.user;
                let is_shown = self.hub.user(user).is_some_and(|hub| hub.is_shown());
                if let Some(ticks) = loaded.ticks_for(conversation.id, user, is_shown) {
                    session.push(&ServerFrame::Ticks(ticks));
                }
            }
        }
    }
}

/// A step that is to be told.
struct News {
    step: MarkStep,
    delivered_moved: bool,
}

fn tell_one(loaded: &mut Loaded, id: ConversationId, user: UserId, now: Time) -> News {
    let delivered_moved = loaded.tell(id, user);
    News {
        step: step_of(user, &loaded.marks_of(user), now),
        delivered_moved,
    }
}

/// What a user's own sessions are told when it has read further.
fn own_read_event(
    id: ConversationId,
    loaded: &Loaded,
    user: UserId,
    read: MarkValue,
    now: Time,
) -> Event {
    let step = MarkStep {
        read: Some(read.into()),
        ..step_of(user, &loaded.marks_of(user), now)
    };
    Event::new(ServerFrame::Marks(Marks {
        conversation: id,
        marks: vec![step],
    }))
}

fn step_of(user: UserId, marks: &UserMarks, at: Time) -> MarkStep {
    let some = |seq: Seq| Some(seq).filter(|seq| *seq > 0);
    MarkStep {
        user,
        at,
        delivered: some(marks.delivered),
        shown: some(marks.shown),
        read: None,
    }
}
