//! Lanes while the store is slow: what does not depend on what waits goes on.

use std::time::Duration;

use tidings_protocol::send::Sent;
use tokio::time::{sleep, timeout};

use super::world::Where::{In, To};
use super::world::{Device, World, said};
use crate::chat::{lane, lane_count};

/// Longer than anything takes here that does not wait for the store.
const A_WHILE: Duration = Duration::from_millis(30);

/// Anna and others, each of whom she has written to.
async fn begun(world: &World, others: usize) -> (Device, Vec<Sent>) {
    let anna = world.person("anna").await;
    let mut begun = Vec::new();
    for number in 0..others {
        let other = world.person(&format!("other{number}")).await;
        begun.push(world.say(&anna, To(other.caller.user), "hello").await);
    }
    (anna, begun)
}

async fn until_held(world: &World, rounds: usize) {
    let held = async {
        while world.store.holds() < rounds {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), held).await.unwrap();
}

#[tokio::test]
async fn a_lane_goes_on_while_the_store_is_slow_but_not_a_conversation() {
    let world = World::new();
    let (anna, begun) = begun(&world, 2).await;
    world.store.hold();
    let (one, other) = (begun[0].conversation, begun[1].conversation);
    let mut first = world.send_later(&anna, said(In(one), "first"));
    until_held(&world, 1).await;
    let mut second = world.send_later(&anna, said(In(one), "second"));
    let mut elsewhere = world.send_later(&anna, said(In(other), "elsewhere"));
    until_held(&world, 2).await;
    sleep(A_WHILE).await;
    assert_eq!(
        world.store.holds(),
        2,
        "what comes behind an append is decided after it"
    );
    for answer in [&mut first, &mut second, &mut elsewhere] {
        assert!(
            answer.try_recv().is_err(),
            "nothing is said before it is durable"
        );
    }
    world.store.go_on();
    let (first, second) = (
        first.await.unwrap().unwrap(),
        second.await.unwrap().unwrap(),
    );
    assert!(first.seq < second.seq);
    elsewhere.await.unwrap().unwrap();
    assert_eq!(world.texts(&anna, one).await, ["hello", "first", "second"]);
    assert_eq!(world.texts(&anna, other).await, ["hello", "elsewhere"]);
}

#[tokio::test]
async fn a_slow_store_is_handed_a_bounded_number_of_rounds_and_the_rest_together() {
    let world = World::new();
    let most = lane_count() * lane::ROUNDS_WAITING_MAX;
    // Conversations are spread over lanes by chance: enough for all of them.
    let (anna, begun) = begun(&world, 8 * most).await;
    world.store.hold();
    let mut answers = Vec::new();
    for sent in &begun {
        answers.push(world.send_later(&anna, said(In(sent.conversation), "one more")));
        sleep(Duration::from_millis(2)).await;
    }
    until_held(&world, most).await;
    sleep(A_WHILE).await;
    assert_eq!(world.store.holds(), most);
    world.store.go_on();
    for (answer, sent) in answers.into_iter().zip(&begun) {
        let answer = timeout(Duration::from_secs(20), answer).await.unwrap();
        assert_eq!(answer.unwrap().unwrap().conversation, sent.conversation);
        assert_eq!(
            world.texts(&anna, sent.conversation).await,
            ["hello", "one more"]
        );
    }
}
