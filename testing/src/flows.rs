//! The flows of a message between two people, wherever they are connected.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::time::Duration;

use tidings_core::id::direct_id;

use crate::chance::Chance;
use crate::proxy::{Faults, Proxy};
use crate::wire::Way;
use crate::wire::check::all_level;
use crate::wire::device::Device;
use crate::wire::memory::Place;
use crate::world::World;

/// Messages that each side says.
const MESSAGES: u64 = 25;
/// A connection lasts so long at most.
const LASTS_MS_MAX: u64 = 700;

/// At which servers the two are.
#[derive(Clone, Copy, Debug)]
pub struct At<'w> {
    /// Where Ada is connected.
    pub ada: &'w World,
    /// Where Ben is.
    pub ben: &'w World,
}

impl At<'_> {
    /// Both at one server.
    #[must_use]
    pub fn one(world: &World) -> At<'_> {
        At {
            ada: world,
            ben: world,
        }
    }
}

/// Both are there: a message, its ticks, and an answer.
pub async fn both_online(at: At<'_>, way: Way) {
    let ada = at.ada.person("ada", way).await;
    let ben = at.ben.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);

    for round in 0..10 {
        let (ask, answer) = (format!("question {round}"), format!("answer {round}"));
        let said = ada.say(Place::To(ben.user), &ask);
        let seq = ada.sent(said).await;
        assert_eq!(ben.hears(talk, &ask).await, seq);
        ada.sees_delivered(talk, ben.user, seq).await;
        assert!(
            ada.memory().ticks(talk, ben.user).1 < seq,
            "not read before it is read"
        );
        ben.read(talk, seq);
        ada.sees_shown(talk, ben.user, seq).await;
        let said = ben.say(Place::In(talk), &answer);
        let seq = ben.sent(said).await;
        assert_eq!(ada.hears(talk, &answer).await, seq);
        ben.sees_delivered(talk, ada.user, seq).await;
    }
    all_level(at.ada.port(), &[&ada, &ben]).await;
    for device in [&ada, &ben] {
        assert_eq!(device.memory().said(talk).len(), 20);
        assert_eq!(device.memory().connections, 1, "{}", device.name);
    }
}

/// The recipient is away: messages wait, arrive in order, and the ticks travel back.
pub async fn recipient_offline(at: At<'_>, way: Way) {
    let ada = at.ada.person("ada", way).await;
    let ben = at.ben.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    let said = ada.say(Place::To(ben.user), "are you there?");
    let first = ada.sent(said).await;
    ada.sees_delivered(talk, ben.user, first).await;

    ben.set_online(false);
    let texts: Vec<String> = (0..120).map(|number| format!("waiting {number}")).collect();
    let mut last = first;
    for text in &texts {
        last = ada.sent(ada.say(Place::To(ben.user), text)).await;
    }
    assert_eq!(last, first + 120, "one tick each");
    let (delivered, shown) = ada.memory().ticks(talk, ben.user);
    assert!(
        delivered <= first + 1,
        "no second tick before it has it: {delivered}"
    );
    assert_eq!(shown, 0);

    ben.set_online(true);
    // The last may come first, as a live event: the pages follow.
    ben.hears(talk, "waiting 119").await;
    ben.wait("all of them", |memory| {
        memory.said(talk).len() > texts.len()
    })
    .await;
    assert_eq!(ben.memory().said(talk)[1..], texts, "all, in order");
    ada.sees_delivered(talk, ben.user, last).await;
    ben.read(talk, last);
    ada.sees_shown(talk, ben.user, last).await;
    all_level(at.ada.port(), &[&ada, &ben]).await;
}

/// The sender is away when its message is read: the receipts wait.
pub async fn sender_offline_for_receipt(at: At<'_>, way: Way) {
    let ada = at.ada.person("ada", way).await;
    let ben = at.ben.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    ben.set_online(false);
    let first = ada.sent(ada.say(Place::To(ben.user), "one")).await;
    let last = ada.sent(ada.say(Place::To(ben.user), "two")).await;
    ada.set_online(false);
    ada.wait("offline", |memory| !memory.digest_agrees).await;

    ben.set_online(true);
    ben.hears(talk, "two").await;
    ben.read(talk, first);
    ben.level().await;
    assert_eq!(
        ada.memory().ticks(talk, ben.user),
        (0, 0),
        "the receipts wait"
    );

    ada.set_online(true);
    ada.sees_delivered(talk, ben.user, last).await;
    ada.sees_shown(talk, ben.user, first).await;
    assert!(ada.memory().ticks(talk, ben.user).1 < last);
    ben.read(talk, last);
    ada.sees_shown(talk, ben.user, last).await;
    all_level(at.ada.port(), &[&ada, &ben]).await;
}

/// Connections of both are cut at random during a conversation: nothing is lost, doubled or out of order.
pub async fn both_flapping(at: At<'_>, way: Way, pairs_max: u64) {
    let seed = at.ada.seed;
    let proxies = [
        Proxy::start(at.ada.port()).await,
        Proxy::start(at.ben.port()).await,
    ];
    for proxy in &proxies {
        proxy.misbehave(Some(Faults {
            seed,
            lasts_ms_max: LASTS_MS_MAX,
        }));
    }
    let mut pairs = Vec::new();
    for pair in 0..pairs_max {
        let mut devices = Vec::new();
        for (side, (world, proxy)) in ["ada", "ben"]
            .iter()
            .zip([at.ada, at.ben].iter().zip(&proxies))
        {
            let name = format!("{side}-{pair}");
            let login = world.sign_up(&name).await;
            let seed = Chance::part(seed, pair).number();
            let device = Device::offline(&name, way, proxy.port, &login, seed);
            device.read_all();
            devices.push(device);
        }
        pairs.push(devices);
    }

    let talks = pairs.iter().enumerate().map(|(number, pair)| {
        let mut chance = Chance::part(seed, number as u64);
        async move {
            let (ada, ben) = (&pair[0], &pair[1]);
            ada.set_online(true);
            ben.set_online(true);
            for message in 0..MESSAGES {
                ada.say(Place::To(ben.user), &format!("ada {message}"));
                ben.say(Place::To(ada.user), &format!("ben {message}"));
                tokio::time::sleep(Duration::from_millis(chance.below(200))).await;
            }
        }
    });
    futures_util::future::join_all(talks).await;
    // In the end the lines behave, and what is still under way on bad ones is cut.
    let made: u64 = proxies.iter().map(Proxy::connections).sum();
    for proxy in &proxies {
        proxy.misbehave(None);
        proxy.cut();
    }
    assert!(made > pairs_max * 4, "they did flap: {made} connections");

    let devices: Vec<&Device> = pairs.iter().flatten().collect();
    all_level(at.ada.port(), &devices).await;
    for pair in &pairs {
        let (ada, ben) = (&pair[0], &pair[1]);
        let talk = direct_id(ada.user, ben.user);
        let said = ada.memory().said(talk);
        assert_eq!(said, ben.memory().said(talk), "the same on both");
        for side in ["ada", "ben"] {
            let of_side: Vec<&String> = said.iter().filter(|text| text.starts_with(side)).collect();
            let expected: Vec<String> = (0..MESSAGES)
                .map(|number| format!("{side} {number}"))
                .collect();
            assert!(of_side.into_iter().eq(&expected), "{side}: {said:?}");
        }
        let head = ada.memory().log(talk).head;
        ada.sees_delivered(talk, ben.user, head).await;
        ada.sees_shown(talk, ben.user, head).await;
        ben.sees_delivered(talk, ada.user, head).await;
        ben.sees_shown(talk, ada.user, head).await;
    }
}
