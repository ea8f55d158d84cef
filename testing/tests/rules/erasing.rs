//! What was deleted, or has vanished, or everybody has under `until_delivered`, is found nowhere on the disk.

use std::time::Duration;

use tidings_core::id::direct_id;
use tidings_protocol::entry::SettingsChange;
use tidings_protocol::send::{Action, EditAction};
use tidings_testing::server::Server;
use tidings_testing::wire::check::{all_level, entries_of};
use tidings_testing::wire::device::content;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{PATIENCE, Way};
use tidings_testing::world::{World, configure, delete, group, named, react, until_delivered};

/// The bound, shortened.
pub(crate) const SOON: [(&str, &str); 1] = [("store.erase_within_s", "2")];

/// Waits until a text stands in no file any more.
pub(crate) async fn found_nowhere(server: &Server, text: &str) {
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let files = server.files_with(text);
        if files.is_empty() {
            return;
        }
        assert!(
            std::time::Instant::now() < until,
            "{text:?} stands in {files:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn until_delivered_is_found_nowhere_once_everybody_has_it() {
    let world = World::start_with("until_delivered", &SOON).await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Polling).await;
    let cyd = world.person("cyd", Way::Cbor).await;
    let talk = group(&ada, &[ben.user, cyd.user], until_delivered()).await;
    for device in [&ben, &cyd] {
        device
            .wait("the group", |memory| memory.logs.contains_key(&talk))
            .await;
    }
    cyd.set_online(false);
    let secret = "the treasure lies under the third oak";
    let seq = ada.sent(ada.say(Place::In(talk), secret)).await;
    ada.sees_delivered(talk, ben.user, seq).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!world.server.files_with(secret).is_empty(), "cyd lacks it");

    cyd.set_online(true);
    cyd.hears(talk, secret).await;
    ada.sees_delivered(talk, cyd.user, seq).await;
    found_nowhere(&world.server, secret).await;
    // The envelope remains, the conversation goes on.
    let told = world.conversation(&ada.token, talk).await;
    assert!(told.trimmed >= seq, "{told:?}");
    ada.say(Place::In(talk), "next");
    for device in [&ben, &cyd] {
        device.hears(talk, "next").await;
    }
    let mut http = world.http(&ada.token);
    let served = entries_of(&mut http, talk).await;
    assert!(served.iter().all(|entry| entry.seq > seq), "{served:?}");
    for device in [&ada, &ben, &cyd] {
        device.level().await;
        assert_eq!(
            device.memory().said(talk),
            [secret, "next"],
            "{}",
            device.name
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_for_everyone_is_found_nowhere() {
    let mut world = World::start_with("deleted_for_everyone", &SOON).await;
    let ada = world.person("ada", Way::Cbor).await;
    let ben = world.person("ben", Way::Json).await;
    let talk = direct_id(ada.user, ben.user);
    let (first, second) = ("a word too many", "an edit that made it worse");
    let seq = ada.sent(ada.say(Place::To(ben.user), first)).await;
    let edit = Action::Edit(EditAction {
        target: seq,
        content: content(second),
    });
    ada.sent(ada.send(Place::In(talk), edit)).await;
    ben.hears(talk, second).await;
    let kept = ada.sent(ada.say(Place::In(talk), "this one stays")).await;
    assert!(!world.server.files_with(first).is_empty());
    assert!(!world.server.files_with(second).is_empty());

    ada.sent(ada.send(Place::In(talk), delete(seq))).await;
    ben.wait("the deletion", |memory| {
        memory.said(talk) == ["this one stays"]
    })
    .await;
    for text in [first, second] {
        found_nowhere(&world.server, text).await;
    }
    let refused = ada.send(Place::In(talk), react(seq, "x"));
    assert_eq!(
        ada.refused(refused).await,
        tidings_protocol::Code::TargetErased
    );
    let edit = Action::Edit(EditAction {
        target: seq,
        content: content("again"),
    });
    let refused = ada.send(Place::In(talk), edit);
    assert_eq!(
        ada.refused(refused).await,
        tidings_protocol::Code::TargetErased
    );
    all_level(world.port(), &[&ada, &ben]).await;
    world.server.stop().await;
    world.server.verify().await;
    for text in [first, second] {
        assert!(world.server.files_with(text).is_empty());
    }
    world.server.start_again().await;
    let served = entries_of(&mut world.http(&ben.token), talk).await;
    assert!(
        served
            .iter()
            .any(|entry| entry.seq == kept && entry.content.is_some())
    );
    assert!(
        served
            .iter()
            .any(|entry| entry.seq == seq && entry.content.is_none())
    );
    all_level(world.port(), &[&ada, &ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disappearing_messages() {
    let world = World::start_with("disappearing_messages", &SOON).await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let late = world.sign_up("late").await;
    let talk = group(&ada, &[ben.user, late.user], named("three")).await;
    ada.sent(ada.say(Place::In(talk), "stays")).await;
    let change = SettingsChange {
        vanish_after_ms: Some(1_500),
        ..SettingsChange::default()
    };
    ada.sent(ada.send(Place::In(talk), configure(change))).await;
    let secret = "gone in a second and a half";
    let seq = ada.sent(ada.say(Place::In(talk), secret)).await;
    ben.hears(talk, secret).await;
    let entry = ben.memory().log(talk).entries[&seq].clone();
    let expires = entry.expires.unwrap();
    assert_eq!(expires.millis_since(entry.at), 1_500);
    let stays = ben.hears(talk, "stays").await;
    assert_eq!(ben.memory().log(talk).entries[&stays].expires, None);

    found_nowhere(&world.server, secret).await;
    let served = entries_of(&mut world.http(&ben.token), talk).await;
    let vanished = served.iter().find(|entry| entry.seq == seq).unwrap();
    assert_eq!(vanished.content, None);
    // Who comes late finds its place, and it counts until it is passed.
    let late = world.device("late", Way::Polling, &late);
    late.hears(talk, "stays").await;
    late.level().await;
    assert_eq!(late.memory().said(talk), ["stays"]);
    assert_eq!(late.memory().log(talk).unread(late.user), 2);
    all_level(world.port(), &[&ada, &ben, &late]).await;
}
