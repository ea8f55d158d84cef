//! Ticks, unread counts, digests.

use tidings_core::ConversationId;
use tidings_protocol::account::{Audience, Privacy, ProfileChange};
use tidings_protocol::entry::Settings;
use tidings_protocol::mark::{MarkUpdate, ReceiptsRequest};
use tidings_protocol::sync::{HistoryRequest, Member, MembersRequest};
use tidings_protocol::{Code, ServerFrame};

use super::world::Where::{In, To};
use super::world::{Device, World, history};

fn mark_frames(device: &Device) -> Vec<tidings_protocol::mark::MarkStep> {
    let frames = device.frames();
    frames
        .into_iter()
        .filter_map(|frame| match frame {
            ServerFrame::Marks(marks) => Some(marks.marks),
            _ => None,
        })
        .flatten()
        .collect()
}

#[tokio::test]
async fn ticks_reach_the_author_and_the_digests_agree() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let sent = world.say(&anna, To(ben.caller.user), "hello").await;
    world.mark(&ben, sent.conversation, sent.seq, 0).await;
    world.advance(2_000);
    world.mark(&ben, sent.conversation, 0, sent.seq).await;
    let steps = mark_frames(&anna);
    assert_eq!(
        steps.iter().map(|step| step.delivered).max().flatten(),
        Some(2)
    );
    assert_eq!(steps.iter().map(|step| step.shown).max().flatten(), Some(2));
    for device in [&anna, &ben] {
        assert_eq!(world.digest(device), world.digest_of_inbox(device).await);
    }
    let request = ReceiptsRequest {
        id: 1,
        conversation: sent.conversation,
        seq: sent.seq,
    };
    let receipts = world.chat.receipts(anna.caller, request).await.unwrap();
    let [receipt] = receipts.recipients.as_slice() else {
        panic!("{receipts:?}")
    };
    assert!(receipt.delivered && receipt.shown);
    assert_eq!(
        receipt
            .shown_at
            .unwrap()
            .millis_since(receipt.delivered_at.unwrap()),
        2_000
    );
}

async fn let_read_be_seen(world: &World, device: &Device, read_receipts: bool) {
    let change = ProfileChange {
        privacy: Some(Privacy {
            last_seen: Audience::Everyone,
            read_receipts,
        }),
        ..ProfileChange::default()
    };
    let changed = world.users.change_profile(device.caller, change).await;
    assert_eq!(changed.unwrap().privacy.read_receipts, read_receipts);
}

/// How far the device is told that somebody else has read.
async fn shown_to(
    world: &World,
    device: &Device,
    of: &Device,
    conversation: ConversationId,
) -> u64 {
    let others = |members: Vec<Member>| {
        let other = members
            .into_iter()
            .find(|member| member.user == of.caller.user);
        other.map(|member| member.marks.shown)
    };
    let summary = world.conversation(device, conversation).await.unwrap();
    let request = MembersRequest {
        id: 1,
        conversation,
        after: None,
        limit: None,
    };
    let page = world.chat.members(device.caller, request).await.unwrap();
    let listed = others(page.members).unwrap();
    if let Some(shown) = others(summary.members) {
        assert_eq!(shown, listed);
    }
    listed
}

#[tokio::test]
async fn who_hides_how_far_it_has_read_is_not_shown_it_of_others() {
    let world = World::new();
    let (anna, ben, carl) = (
        world.person("anna").await,
        world.person("ben").await,
        world.person("carl").await,
    );
    let group = world
        .group(&carl, &[&anna, &ben], Settings::default())
        .await;
    let direct = world.say(&anna, To(ben.caller.user), "hello").await;
    let in_group = world.say(&anna, In(group), "hello").await;
    let_read_be_seen(&world, &anna, false).await;
    for (conversation, seq) in [(direct.conversation, direct.seq), (group, in_group.seq)] {
        world.mark(&ben, conversation, seq, 0).await;
        world.settle().await;
        let _ = carl.frames();
        let steps = mark_frames(&anna);
        let delivered = steps.iter().map(|step| step.delivered).max().flatten();
        assert_eq!(delivered, Some(seq));
        world.mark(&ben, conversation, 0, seq).await;
        world.settle().await;
        assert_eq!(mark_frames(&anna), [], "not even that something was read");
        assert_eq!(shown_to(&world, &anna, &ben, conversation).await, 0);
    }
    let to_carl = mark_frames(&carl);
    let shown = to_carl.iter().map(|step| step.shown).max().flatten();
    assert_eq!(shown, Some(in_group.seq), "who shows it is told");
    assert_eq!(shown_to(&world, &carl, &ben, group).await, in_group.seq);
    // Whether the setting is changed while a session lives, or before it begins: the digest and the inbox agree.
    let another = world.another_device("anna").await;
    for read_receipts in [false, true, false] {
        let before = world.digest(&anna);
        let was_shown = shown_to(&world, &anna, &ben, group).await > 0;
        let_read_be_seen(&world, &anna, read_receipts).await;
        assert_eq!(
            world.digest(&anna) != before,
            was_shown != read_receipts,
            "a change is noticed"
        );
        assert_eq!(
            shown_to(&world, &anna, &ben, group).await > 0,
            read_receipts
        );
        for device in [&anna, &another, &ben, &carl] {
            assert_eq!(world.digest(device), world.digest_of_inbox(device).await);
        }
    }
    // A conversation that reaches a live session by itself says no more than one that is asked for.
    let _ = anna.frames();
    world.leave(&anna, group).await;
    world.invite(&carl, group, &anna).await;
    let frames = anna.frames();
    let told = frames.iter().find_map(|frame| match frame {
        ServerFrame::Conversation(frame) => Some(&frame.conversation),
        _ => None,
    });
    for member in &told.unwrap().members {
        let is_mine = member.user == anna.caller.user;
        assert!(is_mine || member.marks.shown == 0, "{member:?}");
    }
    assert_eq!(world.digest(&anna), world.digest_of_inbox(&anna).await);
}

#[tokio::test]
async fn ticks_of_a_large_group_hide_what_was_read_from_who_hides_it() {
    let world = World::new();
    let anna = world.person("anna").await;
    let mut others = Vec::new();
    for number in 0..33 {
        others.push(world.person(&format!("person{number}")).await);
    }
    let members: Vec<&Device> = others.iter().collect();
    let group = world.group(&anna, &members, Settings::default()).await;
    let sent = world.say(&anna, In(group), "hello").await;
    for other in &others {
        world.mark(other, group, 0, sent.seq).await;
    }
    for (read_receipts, expected) in [(true, sent.seq), (false, 0)] {
        let_read_be_seen(&world, &anna, read_receipts).await;
        let session = anna.session.as_ref().unwrap();
        let watched = world.chat.watch_conversation(session, Some(group)).await;
        watched.unwrap();
        let frames = anna.frames();
        let ticks = frames.iter().find_map(|frame| match frame {
            ServerFrame::Ticks(ticks) => Some((ticks.delivered, ticks.shown)),
            _ => None,
        });
        assert_eq!(ticks, Some((sent.seq, expected)));
        assert_eq!(
            shown_to(&world, &anna, &others[0], group).await,
            expected,
            "in the list of members"
        );
        assert_eq!(world.digest(&anna), world.digest_of_inbox(&anna).await);
    }
}

#[tokio::test]
async fn a_mark_above_the_head_is_refused_and_changes_nothing() {
    let world = World::new();
    let (anna, ben, carl) = (
        world.person("anna").await,
        world.person("ben").await,
        world.person("carl").await,
    );
    let sent = world.say(&anna, To(ben.caller.user), "hello").await;
    let update = MarkUpdate {
        conversation: sent.conversation,
        delivered: Some(3),
        read: None,
        generation: None,
    };
    assert_eq!(
        world
            .chat
            .mark(ben.caller, None, &[update])
            .await
            .unwrap_err()
            .code,
        Code::AboveHead
    );
    assert_eq!(
        world
            .chat
            .mark(carl.caller, None, &[update])
            .await
            .unwrap_err()
            .code,
        Code::NotFound
    );
    assert_eq!(
        world
            .conversation(&ben, sent.conversation)
            .await
            .unwrap()
            .delivered,
        0
    );
}

#[tokio::test]
async fn read_on_one_device_clears_the_badge_on_the_other() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let other = world.another_device("ben").await;
    let sent = world.say(&anna, To(ben.caller.user), "hello").await;
    assert_eq!(
        world
            .conversation(&other, sent.conversation)
            .await
            .unwrap()
            .unread,
        1
    );
    world.mark(&ben, sent.conversation, 0, sent.seq).await;
    let read = mark_frames(&other)
        .into_iter()
        .find_map(|step| step.read)
        .unwrap();
    assert_eq!((read.seq, read.ordinal, read.own), (2, 1, 0));
    assert_eq!(
        world
            .conversation(&other, sent.conversation)
            .await
            .unwrap()
            .unread,
        0
    );
    assert_eq!(world.digest(&other), world.digest_of_inbox(&other).await);
}

#[tokio::test]
async fn unread_is_what_one_would_count() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "0").await;
    // Longer than what is remembered, so that counting also reads envelopes, from either end.
    for number in 1..600 {
        let author = if number % 3 == 0 { &ben } else { &anna };
        world
            .say(author, In(begun.conversation), &number.to_string())
            .await;
    }
    for read in [2, 5, 100, 101, 250, 420, 590, 601] {
        world.mark(&ben, begun.conversation, 0, read).await;
        let request = HistoryRequest {
            after: Some(0),
            ..history(begun.conversation)
        };
        let mut entries = Vec::new();
        let mut after = 0;
        while after < 601 {
            let page = world
                .chat
                .history(
                    ben.caller,
                    HistoryRequest {
                        after: Some(after),
                        ..request
                    },
                )
                .await
                .unwrap();
            after = page.to;
            entries.extend(page.entries);
        }
        let others = |entry: &&tidings_protocol::entry::Entry| {
            entry.seq > read && entry.counts && entry.author != ben.caller.user
        };
        let expected = entries.iter().filter(others).count() as u64;
        assert_eq!(
            world
                .conversation(&ben, begun.conversation)
                .await
                .unwrap()
                .unread,
            expected,
            "read to {read}"
        );
        assert_eq!(
            world
                .restarted()
                .conversation(&ben, begun.conversation)
                .await
                .unwrap()
                .unread,
            expected
        );
    }
}

#[tokio::test]
async fn marks_of_a_group_are_gathered_and_of_a_large_one_summed_for_those_who_look() {
    let world = World::new();
    let anna = world.person("anna").await;
    let mut others = Vec::new();
    for number in 0..33 {
        others.push(world.person(&format!("person{number}")).await);
    }
    let small = world
        .group(
            &anna,
            &others[..3].iter().collect::<Vec<_>>(),
            Settings::default(),
        )
        .await;
    let large = world
        .group(
            &anna,
            &others.iter().collect::<Vec<_>>(),
            Settings::default(),
        )
        .await;
    world
        .chat
        .watch_conversation(anna.session.as_ref().unwrap(), Some(large))
        .await
        .unwrap();
    let (in_small, in_large) = (
        world.say(&anna, In(small), "small").await,
        world.say(&anna, In(large), "large").await,
    );
    let _ = anna.frames();
    for other in &others {
        world.mark(other, large, in_large.seq, 0).await;
    }
    for other in &others[..3] {
        world.mark(other, small, in_small.seq, 0).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let frames = anna.frames();
    let ticks = frames.iter().rev().find_map(|frame| match frame {
        ServerFrame::Ticks(ticks) => Some(ticks.delivered),
        _ => None,
    });
    assert_eq!(ticks, Some(in_large.seq));
    let told = frames.iter().filter_map(|frame| match frame {
        ServerFrame::Marks(marks) if marks.conversation == large => Some(()),
        _ => None,
    });
    assert_eq!(told.count(), 0, "nobody is told each of 33 members' steps");
    for device in others.iter().chain([&anna]) {
        assert_eq!(world.digest(device), world.digest_of_inbox(device).await);
    }
}

#[tokio::test]
async fn who_leaves_right_after_reading_leaves_the_digests_right() {
    let world = World::new();
    let (anna, ben, carl) = (
        world.person("anna").await,
        world.person("ben").await,
        world.person("carl").await,
    );
    let group = world
        .group(&anna, &[&ben, &carl], Settings::default())
        .await;
    let sent = world.say(&anna, In(group), "hello").await;
    world.mark(&ben, group, 0, sent.seq).await;
    world.leave(&ben, group).await;
    world.settle().await;
    for device in [&anna, &carl] {
        assert_eq!(world.digest(device), world.digest_of_inbox(device).await);
    }
}

#[tokio::test]
async fn ticks_are_told_again_when_a_large_group_becomes_small() {
    let world = World::new();
    let anna = world.person("anna").await;
    let mut others = Vec::new();
    for number in 0..32 {
        others.push(world.person(&format!("person{number}")).await);
    }
    let group = world
        .group(
            &anna,
            &others.iter().collect::<Vec<_>>(),
            Settings::default(),
        )
        .await;
    let sent = world.say(&anna, In(group), "hello").await;
    for other in &others {
        world.mark(other, group, sent.seq, 0).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    world.leave(&others[31], group).await;
    let seen = world.conversation(&anna, group).await.unwrap();
    let delivered = seen
        .members
        .iter()
        .filter(|member| member.user != anna.caller.user)
        .map(|member| member.marks.delivered);
    assert_eq!(delivered.min(), Some(sent.seq));
    assert_eq!(world.digest(&anna), world.digest_of_inbox(&anna).await);
}
