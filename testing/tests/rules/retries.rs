//! Rule 3: a retry is harmless, whatever changed since and whatever the bytes.

use tidings_protocol::Code;
use tidings_testing::wire::Way;
use tidings_testing::wire::check::entries_of;
use tidings_testing::wire::device::message;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, group, named, remove};

use super::{refused, send, sent};

pub(crate) async fn retry_after_removal(way: Way) {
    let world = World::start("retry_after_removal").await;
    let ada = world.person("ada", way).await;
    let ben = world.sign_up("ben").await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    let mut connection = world.connect(way, &ben.token).await;
    let client_id = ada.new_client_id();
    let first = sent(&mut connection, send(talk, client_id, message("first"))).await;

    ada.sent(ada.send(Place::In(talk), remove(ben.user))).await;
    let again = sent(
        &mut connection,
        send(talk, client_id, message("other bytes")),
    )
    .await;
    assert_eq!(
        (again.seq, again.at, again.client_id),
        (first.seq, first.at, client_id)
    );
    let new = send(talk, ada.new_client_id(), message("new"));
    assert_eq!(refused(&mut connection, new).await, Code::NotFound);
    ada.level().await;
    assert_eq!(ada.memory().said(talk), ["first"]);
}

pub(crate) async fn retry_after_a_restart(way: Way) {
    let mut world = World::start("retry_after_a_restart").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    let mut connection = world.connect(way, &ben.token).await;
    let mut first = Vec::new();
    // More than the state remembers: the search goes to the store.
    for number in 0..100 {
        let client_id = ada.new_client_id();
        let frame = send(talk, client_id, message(&format!("{number}")));
        first.push((client_id, sent(&mut connection, frame).await.seq));
    }
    drop(connection);
    world.server.kill();
    world.server.start_again().await;

    let mut connection = world.connect(way, &ben.token).await;
    for (client_id, seq) in first {
        let again = sent(&mut connection, send(talk, client_id, message("again"))).await;
        assert_eq!(again.seq, seq);
    }
    let mut http = world.http(&ben.token);
    assert_eq!(entries_of(&mut http, talk).await.len(), 101);
}

pub(crate) async fn retry_from_two_connections_at_once(way: Way) {
    let world = World::start("retry_from_two_connections_at_once").await;
    let ada = world.person("ada", way).await;
    let ben = world.sign_up("ben").await;
    let second = world.log_in("ben").await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    // Two of one device, one of another device of the same user.
    let mut one = world.connect(way, &ben.token).await;
    let mut two = world.connect(Way::Cbor, &ben.token).await;
    let mut three = world.connect(way, &second.token).await;
    for number in 0..30 {
        let client_id = ada.new_client_id();
        let frame = |text: &str| send(talk, client_id, message(&format!("{text} {number}")));
        let (a, b, c) = futures_util::future::join3(
            sent(&mut one, frame("a")),
            sent(&mut two, frame("b")),
            sent(&mut three, frame("c")),
        )
        .await;
        assert_eq!((a.seq, a.at), (b.seq, b.at));
        assert_eq!((a.seq, a.at), (c.seq, c.at));
    }
    let mut http = world.http(&ben.token);
    assert_eq!(entries_of(&mut http, talk).await.len(), 31);
}
