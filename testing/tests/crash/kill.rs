//! Rule 1: after `kill -9` at any moment no acknowledged entry is missing, none is doubled, none half there.

use std::time::{Duration, Instant};

use tidings_core::ConversationId;
use tidings_core::id::direct_id;
use tidings_testing::chance::{Chance, rounds};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::Device;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, delete, group, named, react};

/// A start-up takes less than this, says the issue.
const START_MAX: Duration = Duration::from_secs(2);

/// Rounds on one data directory; then another, so that long runs do not compare ever longer logs.
const ROUNDS_PER_WORLD: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load() {
    let mut left = rounds(50);
    while left > 0 {
        let rounds = left.min(ROUNDS_PER_WORLD);
        kill_again_and_again(rounds).await;
        left -= rounds;
    }
}

async fn kill_again_and_again(rounds: u64) {
    let mut world = World::start("killed_under_load").await;
    let mut chance = Chance::new(world.seed);
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let cyd = world.person("cyd", Way::Polling).await;
    let second = world.second_device("ada", Way::Cbor).await;
    let talk = group(&ada, &[ben.user, cyd.user], named("all")).await;
    let devices = [&ada, &ben, &cyd, &second];
    for device in devices {
        device.read_all();
        device
            .wait("the group", |memory| memory.logs.contains_key(&talk))
            .await;
    }
    let places = [
        Place::In(talk),
        Place::In(talk),
        Place::To(ben.user),
        Place::To(ada.user),
    ];
    let (mut starts, mut number) = (Vec::new(), 0_u64);
    let (mut in_flight, mut settled) = (0, 0);
    for round in 0..rounds {
        // The load goes on until the kill, which comes at any moment of it.
        let until = Instant::now() + Duration::from_millis(chance.between(5, 200));
        while Instant::now() < until {
            let device = devices[chance.below(4) as usize];
            let place = places[chance.below(4) as usize];
            if place != Place::To(device.user) {
                wish(device, place, &mut chance, number);
                number += 1;
            }
            if chance.percent(20) {
                tokio::time::sleep(Duration::from_millis(chance.below(4))).await;
            } else {
                tokio::task::yield_now().await;
            }
            if devices
                .iter()
                .any(|device| device.memory().outbox.len() > 40)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        world.server.kill();
        for device in devices {
            let memory = device.memory();
            in_flight += memory.outbox.iter().filter(|one| one.in_flight).count();
            settled = settled.max(memory.settled.len());
        }
        world.server.verify().await;
        starts.push(world.server.start_again().await);
        // Now and then everybody comes level; in between they are killed while they do.
        if round % 5 == 4 || round + 1 == rounds {
            all_level(world.port(), &devices).await;
        }
    }
    assert!(settled > 0 && in_flight > 0, "the kills came under load");
    let longest = starts.iter().max().copied().unwrap_or_default();
    let mean = starts.iter().sum::<Duration>() / u32::try_from(starts.len().max(1)).unwrap();
    println!(
        "{number} wishes, {in_flight} of them under way when it was killed, {rounds} kills; start-up {mean:?} on average, {longest:?} at most"
    );
    assert!(longest < START_MAX, "{longest:?}");

    for device in devices {
        let refused = device.memory().problems.clone();
        assert!(
            refused
                .iter()
                .all(|problem| problem.code != tidings_protocol::Code::Unsettled),
            "{refused:?}"
        );
        ticks_arrive(device, &devices, talk).await;
    }
    assert_eq!(ada.memory().said(talk), second.memory().said(talk));
    let direct = direct_id(ada.user, ben.user);
    assert_eq!(ada.memory().said(direct), ben.memory().said(direct));
    world.server.stop().await;
    world.server.verify().await;
}

/// Mostly a message, at times something that alters one.
fn wish(device: &Device, place: Place, chance: &mut Chance, number: u64) {
    let target = |memory: &tidings_testing::wire::memory::Memory, talk: ConversationId| {
        let log = memory.log(talk);
        let own =
            log.entries.values().rev().find(|entry| {
                entry.content.is_some() && entry.author == memory.user && entry.counts
            });
        own.map(|entry| entry.seq)
    };
    let aim = match place {
        Place::In(talk) if chance.percent(10) => target(&device.memory(), talk),
        _ => None,
    };
    match aim {
        Some(seq) if chance.percent(30) => device.send(place, delete(seq)),
        Some(seq) => device.send(place, react(seq, &format!("{}", number % 7))),
        None => device.say(place, &format!("{} {number}", device.name)),
    };
}

async fn ticks_arrive(device: &Device, all: &[&Device], talk: ConversationId) {
    let head = device.memory().log(talk).head;
    for other in all.iter().filter(|other| other.user != device.user) {
        device.sees_delivered(talk, other.user, head).await;
        device.sees_shown(talk, other.user, head).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_with_much_data() {
    let mut world = World::start("start_up_with_much_data").await;
    let ada = world.person("ada", Way::Cbor).await;
    let mut talks = Vec::new();
    for number in 0..30 {
        let name = format!("friend-{number}");
        let friend = world.sign_up(&name).await;
        talks.push(friend.user);
    }
    let text = "some words to fill the disk with ".repeat(20);
    for number in 0..200 {
        for friend in &talks {
            ada.say(Place::To(*friend), &format!("{number} {text}"));
        }
    }
    ada.level().await;
    world.server.kill();
    let took = world.server.start_again().await;
    println!("start-up after kill -9 with 6,000 messages: {took:?}");
    assert!(took < START_MAX, "{took:?}");
    all_level(world.port(), &[&ada]).await;
}
