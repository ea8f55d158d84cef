//! Rule 2: one device's sends keep their order; while one is refused for now, those behind it are too.

use std::collections::BTreeMap;

use tidings_protocol::{Code, Retry, ServerFrame};
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::message;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Way, answers};
use tidings_testing::world::{World, group, named};

use super::{first, send};

const MESSAGES: usize = 60;

pub(crate) async fn behind_one_that_was_refused(way: Way) {
    let settings = [
        ("limits.user_requests_per_s", "40"),
        ("limits.user_requests_burst_max", "20"),
    ];
    let world = World::start_with("behind_one_that_was_refused", &settings).await;
    let ada = world.person("ada", way).await;
    let ben = world.sign_up("ben").await;
    let talk = group(&ada, &[ben.user], named("two")).await;

    // Bare: everything at once. From the first that is refused on, none behind it may pass.
    let mut connection = world.connect(way, &ben.token).await;
    let mut asked = BTreeMap::new();
    for number in 0..MESSAGES {
        let frame = send(talk, ada.new_client_id(), message(&format!("ben {number}")));
        let id = connection.post(frame).await.unwrap();
        asked.insert(id, number);
    }
    let mut sent = Vec::new();
    let mut first_refused = MESSAGES;
    while !asked.is_empty() {
        let frame = connection.next().await.unwrap();
        let Some(number) = answers(&frame).and_then(|id| asked.remove(&id)) else {
            continue;
        };
        match frame {
            ServerFrame::Sent(answer) => sent.push((number, answer.seq)),
            ServerFrame::Error(error) => {
                assert!(
                    matches!(error.problem.code, Code::RateLimited | Code::Behind),
                    "{error:?}"
                );
                assert_eq!(error.problem.retry, Retry::Later);
                first_refused = first_refused.min(number);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(first_refused < MESSAGES, "the rate is passed");
    sent.sort_unstable();
    assert!(sent.is_sorted_by_key(|(_, seq)| *seq), "{sent:?}");
    let passed: Vec<usize> = sent.into_iter().map(|(number, _)| number).collect();
    let expected: Vec<usize> = (0..first_refused).collect();
    assert_eq!(passed, expected, "those behind it wait");
    drop(connection);

    // A device that tries again gets everything through, in order.
    for number in 0..MESSAGES {
        ada.say(Place::In(talk), &format!("{number:03}"));
    }
    let last = MESSAGES - 1;
    ada.hears(talk, &format!("{last:03}")).await;
    let said: Vec<String> = ada
        .memory()
        .said(talk)
        .into_iter()
        .filter(|text| !text.starts_with("ben"))
        .collect();
    assert_eq!(said.len(), MESSAGES);
    assert!(said.is_sorted(), "{said:?}");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    all_level(world.port(), &[&ada]).await;
}

pub(crate) async fn cancelled_send(way: Way) {
    let settings = [
        ("limits.user_requests_per_s", "20"),
        ("limits.user_requests_burst_max", "20"),
    ];
    let world = World::start_with("cancelled_send", &settings).await;
    let ada = world.person("ada", way).await;
    let ben = world.sign_up("ben").await;
    let talk = group(&ada, &[ben.user], named("two")).await;

    let mut connection = world.connect(way, &ben.token).await;
    let mut asked = 0;
    for number in 0..MESSAGES {
        let frame = send(talk, ada.new_client_id(), message(&format!("ben {number}")));
        connection.post(frame).await.unwrap();
        asked += 1;
    }
    let mut passed = 0;
    while asked > 0 {
        let frame = connection.next().await.unwrap();
        if answers(&frame).is_some() {
            asked -= 1;
            passed += usize::from(matches!(frame, ServerFrame::Sent(_)));
        }
    }
    assert!(passed < MESSAGES, "the rate is passed");
    // None of the refused ones ever comes again: what is wished next waits for none of them, and a second
    // follows it without waiting for the answer.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let next = send(talk, ada.new_client_id(), message("next"));
    assert_eq!(
        connection.refused(next.clone()).await.unwrap().code,
        Code::Behind
    );
    connection.post(first(next)).await.unwrap();
    let last = send(talk, ada.new_client_id(), message("last"));
    connection.post(last).await.unwrap();
    ada.hears(talk, "last").await;
    let said = ada.memory().said(talk);
    assert_eq!(said[said.len() - 2..], ["next", "last"], "{said:?}");
}
