//! SIGTERM: what is in flight is finished or refused, never half done.

use std::collections::BTreeMap;
use std::time::Duration;

use tidings_protocol::{Code, ServerFrame};
use tidings_testing::wire::check::{all_level, entries_of};
use tidings_testing::wire::device::message;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Lost, Way, answers};
use tidings_testing::world::{World, group, named};

const SENDS: usize = 3_000;

pub(crate) async fn sigterm_drains(way: Way) {
    let mut world = World::start("sigterm_drains").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    ben.wait("the group", |memory| memory.logs.contains_key(&talk))
        .await;
    for number in 0..200 {
        ada.say(Place::In(talk), &format!("device {number}"));
    }
    let mut connection = world.connect(way, &ben.token).await;
    let mut asked = BTreeMap::new();
    for _ in 0..SENDS {
        let client_id = ada.new_client_id();
        let send = tidings_protocol::send::Send {
            id: 0,
            conversation: Some(talk),
            to: None,
            client_id,
            after: None,
            if_epoch: None,
            action: message("bare"),
            first: false,
        };
        let frame = tidings_protocol::ClientFrame::Send(send);
        let Ok(id) = connection.post(frame).await else {
            break;
        };
        asked.insert(id, client_id);
        if asked.len() == SENDS / 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            world.server.terminate();
        }
    }
    let (mut sent, mut refused) = (BTreeMap::new(), Vec::new());
    let lost = loop {
        let frame = match connection.next().await {
            Ok(frame) => frame,
            Err(lost) => break lost,
        };
        let Some(client_id) = answers(&frame).and_then(|id| asked.remove(&id)) else {
            continue;
        };
        match frame {
            ServerFrame::Sent(answer) => {
                sent.insert(answer.seq, client_id);
            }
            ServerFrame::Error(error) => {
                assert_eq!(error.problem.code, Code::Draining, "{error:?}");
                refused.push(client_id);
            }
            other => panic!("{other:?}"),
        }
    };
    println!(
        "{} sent, {} refused, {} neither, then {lost:?}",
        sent.len(),
        refused.len(),
        asked.len()
    );
    if way != Way::Polling {
        assert_eq!(lost, Lost::Bye(Code::Draining));
    }
    let status = world.server.ended().await;
    assert!(status.success(), "{status}");
    world.server.verify().await;

    world.server.start_again().await;
    let entries = entries_of(&mut world.http(&ben.token), talk).await;
    for (seq, client_id) in &sent {
        let entry = entries.iter().find(|entry| entry.seq == *seq).unwrap();
        assert_eq!(entry.client_id, Some(*client_id));
    }
    for client_id in &refused {
        let made = entries
            .iter()
            .any(|entry| entry.client_id == Some(*client_id));
        assert!(!made, "{client_id} was refused and is there");
    }
    // Devices carry on by themselves.
    all_level(world.port(), &[&ada, &ben]).await;
    let said = ada.memory().said(talk);
    let of_device: Vec<&String> = said
        .iter()
        .filter(|text| text.starts_with("device"))
        .collect();
    assert_eq!(of_device.len(), 200);
}
