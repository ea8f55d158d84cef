//! Two servers over one store, of which one hands its sends to the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidings_core::entry::Entry;
use tidings_core::log::Generation;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::entry::Settings;
use tidings_protocol::{Code, ServerFrame};
use tidings_store::memory::AppendFailure;
use tokio::sync::oneshot;

use super::world::{Device, Where, World, said};
use crate::chat::turns::LOOK;
use crate::chat::{Chat, Forwarded, Handed, MarksNews, Others, Reply};
use crate::cluster::decode_send;
use crate::config::ChatSettings;

/// A server that hands sends to another one, as long as it may.
struct Gateway {
    holder: Arc<Chat>,
    hands_over: AtomicBool,
}

impl Gateway {
    /// Joins two servers, of which the first hands its sends to the second if it may.
    fn between(here: &World, there: &World, hands_over: bool) -> Arc<Gateway> {
        let gateway = |holder: &World, hands_over| {
            Arc::new(Gateway {
                holder: holder.chat.clone(),
                hands_over: AtomicBool::new(hands_over),
            })
        };
        let gateway_of_here = gateway(there, hands_over);
        here.chat.set_others(gateway_of_here.clone());
        there.chat.set_others(gateway(here, false));
        gateway_of_here
    }
}

impl Others for Gateway {
    fn tell_entries(
        &self,
        _: ConversationId,
        _: Generation,
        _: &[Entry],
        _: &mut dyn Iterator<Item = UserId>,
    ) {
    }

    fn tell_look(&self, _: ConversationId, _: &mut dyn Iterator<Item = UserId>) {}

    fn tell_marks(&self, _: MarksNews, _: &mut dyn Iterator<Item = UserId>) {}

    fn tell_typing(
        &self,
        _: ConversationId,
        _: UserId,
        _: bool,
        _: &mut dyn Iterator<Item = UserId>,
    ) {
    }

    fn takes_sends(&self) -> bool {
        true
    }

    fn cannot_agree(&self) -> bool {
        false
    }

    fn forward(
        &self,
        _: ConversationId,
        frames: &dyn Fn() -> Option<Vec<Handed>>,
    ) -> Option<Forwarded> {
        if !self.hands_over.load(Ordering::SeqCst) {
            return None;
        }
        let answers: Vec<_> = frames()?
            .into_iter()
            .map(|(caller, frame, _)| {
                let (reply, answer) = oneshot::channel();
                let send = decode_send(&frame).unwrap();
                self.holder.send_here(caller, send, Reply::Once(reply));
                answer
            })
            .collect();
        let (all, answered) = oneshot::channel();
        tokio::spawn(async move {
            let mut told = Vec::new();
            for answer in answers {
                told.push(answer.await.unwrap());
            }
            all.send(told).unwrap();
        });
        Some(answered)
    }

    fn is_mine(&self, _: &[u8]) -> bool {
        false
    }
}

/// Says that other servers share the store, which are told nothing and send nothing.
pub(crate) fn share_with_nobody(chat: &Arc<Chat>) {
    chat.set_others(Arc::new(Gateway {
        holder: chat.clone(),
        hands_over: AtomicBool::new(false),
    }));
}

/// Anna has said "one" to Ben, at a server that hands their conversation over.
async fn talking() -> (World, Arc<Gateway>, Device, Device, ConversationId) {
    let here = World::new();
    let gateway = Gateway::between(&here, &here.restarted(), true);
    let (anna, ben) = (here.person("anna").await, here.person("ben").await);
    let sent = here.say(&anna, Where::To(ben.caller.user), "one").await;
    (here, gateway, anna, ben, sent.conversation)
}

#[tokio::test]
async fn a_refusal_at_the_other_server_holds_up_nothing_once_the_send_was_worked_on_here() {
    let (here, gateway, anna, ben, talk) = talking().await;
    let to = Where::In(talk);
    assert!(gateway.holder.is_in_memory(talk), "handed over");

    here.store.fail_next(AppendFailure::NotDone);
    let two = said(to, "two");
    let refused = here.send(&anna, two.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    // The other server is out of reach for a while.
    gateway.hands_over.store(false, Ordering::SeqCst);
    here.send(&anna, two).await.unwrap();
    gateway.hands_over.store(true, Ordering::SeqCst);
    here.say(&anna, to, "three").await;
    assert_eq!(here.texts(&ben, talk).await, ["one", "two", "three"]);
}

#[tokio::test]
async fn what_came_behind_a_refused_send_waits_for_it_wherever_it_is_worked_on() {
    let (here, gateway, anna, ben, talk) = talking().await;
    let to = Where::In(talk);

    let (two, three) = (said(to, "two"), said(to, "three"));
    here.store.fail_next(AppendFailure::NotDone);
    let mut codes = Vec::new();
    for send in [&two, &three] {
        let refused = here.send(&anna, send.clone()).await.unwrap_err();
        codes.push(refused.code);
    }
    assert_eq!(codes, [Code::Busy, Code::Behind]);
    for hands_over in [false, true] {
        gateway.hands_over.store(hands_over, Ordering::SeqCst);
        let refused = here.send(&anna, three.clone()).await.unwrap_err();
        assert_eq!(refused.code, Code::Behind);
    }
    here.send(&anna, two).await.unwrap();
    here.send(&anna, three).await.unwrap();
    assert_eq!(here.texts(&ben, talk).await, ["one", "two", "three"]);
}

/// Nobody tells anybody, and no inbox says that there is news.
#[tokio::test]
async fn what_happens_in_a_large_group_elsewhere_is_found_by_looking() {
    let here = World::with(ChatSettings {
        write_heads_members_max: 2,
        ..ChatSettings::default()
    });
    let there = here.restarted();
    Gateway::between(&here, &there, false);
    let (anna, ben, cleo) = (
        here.person("anna").await,
        here.person("ben").await,
        here.person("cleo").await,
    );
    let group = here.group(&anna, &[&ben, &cleo], Settings::default()).await;
    let mut away = Device {
        caller: ben.caller,
        session: None,
    };
    there.connect(&mut away).await;
    for _ in 0..2 {
        here.advance(60_000);
        there.chat.refresh(ben.caller.user).await.unwrap();
    }
    away.frames();
    // A log is not looked at all the time.
    tokio::time::sleep(LOOK).await;

    here.say(&anna, Where::In(group), "for all").await;
    here.advance(60_000);
    there.chat.refresh(ben.caller.user).await.unwrap();
    let texts: Vec<String> = away
        .frames()
        .into_iter()
        .filter_map(|frame| match frame {
            ServerFrame::Entries(entries) => Some(entries.entries),
            _ => None,
        })
        .flatten()
        .filter_map(|entry| entry.content.map(|content| content.text))
        .collect();
    assert_eq!(texts, ["for all"]);
    assert_eq!(there.digest(&away), here.digest(&ben));
}
