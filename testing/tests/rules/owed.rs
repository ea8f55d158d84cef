//! `until_delivered`: to whom a message is owed. The awkward cases.

use std::time::Duration;

use tidings_protocol::entry::Retention;
use tidings_testing::wire::Way;
use tidings_testing::wire::device::Device;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, group, until_delivered};

use super::erasing::{SOON, found_nowhere};

const SECRET: &str = "owed until everybody has it";

/// Long enough for what could be erased to be erased.
async fn a_while() {
    tokio::time::sleep(Duration::from_secs(4)).await;
}

fn is_kept(world: &World) -> bool {
    !world.server.files_with(SECRET).is_empty()
}

async fn joined(device: &Device, talk: tidings_core::ConversationId) {
    device
        .wait("the group", |memory| memory.log(talk).generation.is_some())
        .await;
    assert_eq!(
        device.memory().log(talk).settings.retention,
        Retention::UntilDelivered
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member_without_a_device() {
    let world = World::start_with("member_without_a_device", &SOON).await;
    let ada = world.person("ada", Way::Json).await;
    let cyd = world.sign_up("cyd").await;
    world
        .http(&cyd.token)
        .done("POST", "/v1/logout", &serde_json::json!({}))
        .await
        .unwrap();
    let talk = group(&ada, &[cyd.user], until_delivered()).await;
    let seq = ada.sent(ada.say(Place::In(talk), SECRET)).await;
    ada.level().await;
    a_while().await;
    assert!(is_kept(&world), "held for the first device that comes");

    let cyd = world.second_device("cyd", Way::Cbor).await;
    cyd.hears(talk, SECRET).await;
    ada.sees_delivered(talk, cyd.user, seq).await;
    found_nowhere(&world.server, SECRET).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_device() {
    let world = World::start_with("new_device", &SOON).await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Json).await;
    let talk = group(&ada, &[ben.user], until_delivered()).await;
    joined(&ben, talk).await;
    let old = ada
        .sent(ada.say(Place::In(talk), "before the new device"))
        .await;
    ada.sees_delivered(talk, ben.user, old).await;
    ada.level().await;
    ben.level().await;

    // It starts where its user is: owed what comes from now on, also while it is away.
    let login = world.log_in("ben").await;
    let seq = ada.sent(ada.say(Place::In(talk), SECRET)).await;
    ada.sees_delivered(talk, ben.user, seq).await;
    found_nowhere(&world.server, "before the new device").await;
    a_while().await;
    assert!(is_kept(&world), "the new device lacks it");

    let new = world.device("ben's new", Way::Polling, &login);
    new.hears(talk, SECRET).await;
    new.level().await;
    found_nowhere(&world.server, SECRET).await;
    assert_eq!(new.memory().said(talk), [SECRET], "nothing from before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_laggard_revoked() {
    let world = World::start_with("last_laggard_revoked", &SOON).await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let laggard = world.second_device("ben", Way::Json).await;
    let talk = group(&ada, &[ben.user], until_delivered()).await;
    joined(&ben, talk).await;
    joined(&laggard, talk).await;
    laggard.level().await;
    laggard.set_online(false);
    let seq = ada.sent(ada.say(Place::In(talk), SECRET)).await;
    ada.sees_delivered(talk, ben.user, seq).await;
    a_while().await;
    assert!(is_kept(&world), "the laggard lacks it");

    world.revoke(&ben.token, laggard.device).await;
    found_nowhere(&world.server, SECRET).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_that_is_long_away() {
    let world = World::start_with("device_that_is_long_away", &SOON).await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let silent = world.second_device("ben", Way::Json).await;
    let talk = group(&ada, &[ben.user], until_delivered()).await;
    joined(&ben, talk).await;
    ada.say(Place::In(talk), "hello");
    silent.hears(talk, "hello").await;
    silent.level().await;
    silent.set_online(false);
    let seq = ada.sent(ada.say(Place::In(talk), SECRET)).await;
    ada.sees_delivered(talk, ben.user, seq).await;
    a_while().await;
    assert!(is_kept(&world), "it may still return");

    // It does, and then nobody is owed anything.
    silent.set_online(true);
    silent.hears(talk, SECRET).await;
    found_nowhere(&world.server, SECRET).await;
}
