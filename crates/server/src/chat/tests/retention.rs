//! What the server keeps, and for how long.

use tidings_protocol::entry::{Retention, Settings, SettingsChange};
use tidings_protocol::send::Action;
use tidings_protocol::sync::HistoryRequest;
use tidings_protocol::{Code, ServerFrame};

use super::world::Where::{In, To};
use super::world::{World, act, history};
use crate::config::ChatSettings;

fn until_delivered() -> World {
    World::with(ChatSettings {
        direct_retention: Retention::UntilDelivered,
        trim_delay_ms: 1,
        gather_marks_ms: 1,
        ..ChatSettings::default()
    })
}

#[tokio::test]
async fn a_message_goes_when_every_device_has_it() {
    let world = until_delivered();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let other = world.another_device("ben").await;
    let sent = world.say(&anna, To(ben.caller.user), "secret").await;
    let trimmed = async || {
        world
            .conversation(&anna, sent.conversation)
            .await
            .unwrap()
            .trimmed
    };
    world.mark(&anna, sent.conversation, sent.seq, 0).await;
    world.mark(&ben, sent.conversation, sent.seq, 0).await;
    world.settle().await;
    assert_eq!(trimmed().await, 0, "owed to the other device");
    world.mark(&other, sent.conversation, sent.seq, 0).await;
    world.settle().await;
    assert_eq!(trimmed().await, sent.seq);
    assert!(world.texts(&anna, sent.conversation).await.is_empty());
    // Reading what is no longer kept still counts.
    world.mark(&ben, sent.conversation, 0, sent.seq).await;
    assert_eq!(
        world
            .conversation(&ben, sent.conversation)
            .await
            .unwrap()
            .unread,
        0
    );
}

#[tokio::test]
async fn a_member_without_a_device_holds_it_for_the_first_that_comes() {
    let world = until_delivered();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    world.users.log_out(ben.caller).await.unwrap();
    let sent = world.say(&anna, To(ben.caller.user), "held").await;
    world.mark(&anna, sent.conversation, sent.seq, 0).await;
    world.settle().await;
    let new = world.another_device("ben").await;
    assert_eq!(world.texts(&new, sent.conversation).await, ["held"]);
    world.mark(&new, sent.conversation, sent.seq, 0).await;
    world.settle().await;
    assert_eq!(
        world
            .conversation(&anna, sent.conversation)
            .await
            .unwrap()
            .trimmed,
        sent.seq
    );
}

#[tokio::test]
async fn a_new_device_starts_at_its_users_delivered_mark() {
    let world = until_delivered();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let first = world.say(&anna, To(ben.caller.user), "first").await;
    world.mark(&ben, first.conversation, first.seq, 0).await;
    let second = world.say(&anna, In(first.conversation), "second").await;
    world.mark(&anna, first.conversation, second.seq, 0).await;
    let new = world.another_device("ben").await;
    assert_eq!(
        world
            .conversation(&new, first.conversation)
            .await
            .unwrap()
            .device,
        first.seq
    );
    world.mark(&ben, first.conversation, second.seq, 0).await;
    world.settle().await;
    let trimmed = world
        .conversation(&anna, first.conversation)
        .await
        .unwrap()
        .trimmed;
    assert_eq!(
        trimmed, first.seq,
        "the new device is owed the second message, not the first"
    );
}

#[tokio::test]
async fn the_last_laggard_revoked_lets_the_log_be_trimmed() {
    let world = until_delivered();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let laggard = world.another_device("ben").await;
    let sent = world.say(&anna, To(ben.caller.user), "secret").await;
    for device in [&anna, &ben] {
        world.mark(device, sent.conversation, sent.seq, 0).await;
    }
    world.settle().await;
    assert_eq!(
        world
            .conversation(&anna, sent.conversation)
            .await
            .unwrap()
            .trimmed,
        0
    );
    world.users.log_out(laggard.caller).await.unwrap();
    world.chat.device_removed(laggard.caller).await;
    world.settle().await;
    assert_eq!(
        world
            .conversation(&anna, sent.conversation)
            .await
            .unwrap()
            .trimmed,
        sent.seq
    );
}

#[tokio::test]
async fn a_server_that_was_away_itself_takes_no_device_for_silent() {
    let world = until_delivered();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let mut away = world.another_device("ben").await;
    world.disconnect(&mut away);
    world.chat.come_back().await.unwrap();
    let sent = world.say(&anna, To(ben.caller.user), "secret").await;
    for device in [&anna, &ben] {
        world.mark(device, sent.conversation, sent.seq, 0).await;
    }
    let trimmed = async |world: &World| {
        world.chat.keep_retentions().await.unwrap();
        let told = world.conversation(&anna, sent.conversation).await;
        told.unwrap().trimmed
    };
    // For forty days nothing runs; the first thing that happens then is a look at what may be trimmed.
    world.advance(40 * 24 * 3_600_000);
    world.chat.come_back().await.unwrap();
    assert_eq!(trimmed(&world).await, 0, "it had no chance to come");
    world.advance(29 * 24 * 3_600_000);
    world.chat.come_back().await.unwrap();
    assert_eq!(trimmed(&world).await, 0, "nor after another restart");
    world.advance(61 * 24 * 3_600_000);
    assert_eq!(trimmed(&world).await, sent.seq, "it had its time");
}

#[tokio::test]
async fn a_device_that_never_returns_is_owed_nothing_after_its_time() {
    let world = until_delivered();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let mut lost = world.another_device("ben").await;
    world.disconnect(&mut lost);
    let sent = world.say(&anna, To(ben.caller.user), "secret").await;
    world.advance(31 * 24 * 3_600_000);
    for device in [&anna, &ben] {
        world.users.touch(device.caller);
        world.mark(device, sent.conversation, sent.seq, 0).await;
    }
    world.settle().await;
    world.chat.keep_retentions().await.unwrap();
    assert_eq!(
        world
            .conversation(&anna, sent.conversation)
            .await
            .unwrap()
            .trimmed,
        sent.seq
    );
    // It comes back by a reset.
    let generation = Some(
        world
            .conversation(&lost, sent.conversation)
            .await
            .unwrap()
            .generation,
    );
    let request = HistoryRequest {
        after: Some(1),
        generation,
        ..history(sent.conversation)
    };
    assert_eq!(
        world
            .chat
            .history(lost.caller, request)
            .await
            .unwrap_err()
            .code,
        Code::Reset
    );
}

#[tokio::test]
async fn a_member_that_goes_is_owed_nothing_more() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let settings = Settings {
        retention: Retention::UntilDelivered,
        ..Settings::default()
    };
    let group = world.group(&anna, &[&ben], settings).await;
    let sent = world.say(&anna, In(group), "secret").await;
    world.mark(&anna, group, sent.seq, 0).await;
    world.settle().await;
    assert_eq!(world.conversation(&anna, group).await.unwrap().trimmed, 0);
    world.leave(&ben, group).await;
    world.mark(&anna, group, sent.seq + 1, 0).await;
    world.settle().await;
    assert!(world.conversation(&anna, group).await.unwrap().trimmed >= sent.seq);
}

#[tokio::test]
async fn days_pass() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let settings = Settings {
        retention: Retention::Days(2),
        ..Settings::default()
    };
    let group = world.group(&anna, &[&ben], settings).await;
    world.settle().await;
    world.say(&anna, In(group), "old").await;
    world.advance(24 * 3_600_000);
    world.say(&anna, In(group), "new").await;
    world.advance(25 * 3_600_000);
    world.chat.keep_retentions().await.unwrap();
    assert_eq!(world.texts(&ben, group).await, ["new"]);
    assert_eq!(world.restarted().texts(&ben, group).await, ["new"]);
    assert_eq!(
        world.conversation(&ben, group).await.unwrap().unread,
        1,
        "counting starts at the trimmed mark"
    );
}

#[tokio::test]
async fn messages_vanish() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "stays").await;
    let change = SettingsChange {
        vanish_after_ms: Some(60_000),
        ..SettingsChange::default()
    };
    world
        .send(
            &ben,
            act(Some(begun.conversation), Action::Configure(change)),
        )
        .await
        .unwrap();
    let sent = world.say(&anna, In(begun.conversation), "vanishes").await;
    let told = ben.frames();
    let expires = told.iter().rev().find_map(|frame| match frame {
        ServerFrame::Entries(entries) => entries.entries.first().and_then(|entry| entry.expires),
        _ => None,
    });
    assert_eq!(expires.map(|at| at.millis_since(sent.at)), Some(60_000));
    world.advance(60_000);
    assert_eq!(
        world.texts(&ben, begun.conversation).await,
        ["stays"],
        "also before it is erased"
    );
    world.chat.erase_expired().await.unwrap();
    assert_eq!(world.texts(&ben, begun.conversation).await, ["stays"]);
    assert_eq!(
        world
            .conversation(&ben, begun.conversation)
            .await
            .unwrap()
            .unread,
        2,
        "unread until passed"
    );
}
