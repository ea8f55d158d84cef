//! Who is in is served, who is not is not.

use tidings_protocol::mark::{MarkUpdate, RaiseMarks, ReceiptsRequest};
use tidings_protocol::presence::{Typing, Watch};
use tidings_protocol::sync::{ConversationRequest, HistoryRequest, InboxRequest, MembersRequest};
use tidings_protocol::{ClientFrame, Code, ServerFrame};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::message;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, group, invite, leave, named, remove};

use super::{refused, send};

pub(crate) async fn leave_and_rejoin(way: Way) {
    let world = World::start("leave_and_rejoin").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    ada.say(Place::In(talk), "before");
    let before = ben.hears(talk, "before").await;
    let own = ben.sent(ben.say(Place::In(talk), "own")).await;
    assert!(own > before);

    ben.sent(ben.send(Place::In(talk), leave())).await;
    ben.wait("out", |memory| memory.log(talk).out).await;
    let said = ada.say(Place::In(talk), "while ben was away");
    let missed = ada.sent(said).await;
    assert_eq!(
        ben.refused(ben.say(Place::In(talk), "from outside")).await,
        Code::NotFound
    );

    ada.sent(ada.send(Place::In(talk), invite(&[ben.user])))
        .await;
    ada.say(Place::In(talk), "welcome back");
    let back = ben.hears(talk, "welcome back").await;
    assert_eq!(
        ben.memory().said(talk),
        ["before", "own", "welcome back"],
        "nothing from the time away"
    );
    let log = ben.memory().log(talk);
    assert!(!log.entries.contains_key(&missed));
    assert_eq!(log.unread(ben.user), 1, "counted from the joining");
    let told = world.conversation(&ben.token, talk).await;
    assert_eq!(told.unread, 1);
    assert_eq!(told.own, 1);
    ben.read(talk, back);
    ada.sees_shown(talk, ben.user, back).await;
    // A new device of the one who came back is served the same.
    let second = world.second_device("ben", way).await;
    second.hears(talk, "welcome back").await;
    assert!(
        !second
            .memory()
            .said(talk)
            .contains(&"while ben was away".to_owned())
    );
    all_level(world.port(), &[&ada, &ben, &second]).await;
}

pub(crate) async fn removed_member_is_served_nothing(way: Way) {
    let world = World::start("removed_member_is_served_nothing").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let cyd = world.person("cyd", way).await;
    let talk = group(&ada, &[ben.user, cyd.user], named("three")).await;
    let said = ada.say(Place::In(talk), "old news");
    let seq = ada.sent(said).await;
    ben.hears(talk, "old news").await;
    cyd.hears(talk, "old news").await;
    let mut connection = world.connect(way, &ben.token).await;

    ada.sent(ada.send(Place::In(talk), remove(ben.user))).await;
    ada.sent(ada.say(Place::In(talk), "secret")).await;
    cyd.hears(talk, "secret").await;
    ben.wait("out", |memory| memory.log(talk).out).await;

    // Everything that could serve something.
    let history = |after: Option<u64>, around: Option<u64>, before: Option<u64>| {
        ClientFrame::History(HistoryRequest {
            id: 0,
            conversation: talk,
            after,
            before,
            around,
            limit: None,
            generation: None,
            hash: None,
        })
    };
    let mark = MarkUpdate {
        conversation: talk,
        delivered: Some(seq),
        read: Some(seq),
        generation: None,
    };
    let id = 0;
    let attempts = [
        history(Some(0), None, None),
        history(None, Some(seq), None),
        history(None, None, Some(seq + 1)),
        ClientFrame::Conversation(ConversationRequest {
            id,
            conversation: talk,
        }),
        ClientFrame::Members(MembersRequest {
            id,
            conversation: talk,
            after: None,
            limit: None,
        }),
        ClientFrame::Receipts(ReceiptsRequest {
            id,
            conversation: talk,
            seq,
        }),
        ClientFrame::Mark(RaiseMarks {
            id: None,
            marks: vec![mark],
        }),
        ClientFrame::Watch(Watch {
            id: None,
            users: Vec::new(),
            conversation: Some(talk),
        }),
        send(talk, ada.new_client_id(), message("hello?")),
        send(
            talk,
            ada.new_client_id(),
            tidings_testing::world::react(seq, "x"),
        ),
        send(talk, ada.new_client_id(), invite(&[ben.user])),
    ];
    for attempt in attempts {
        let what = format!("{attempt:?}");
        assert_eq!(
            refused(&mut connection, attempt).await,
            Code::NotFound,
            "{what}"
        );
    }
    let typing = ClientFrame::Typing(Typing {
        conversation: talk,
        on: true,
    });
    connection.post(typing).await.unwrap();
    let inbox = ClientFrame::Inbox(InboxRequest {
        id: 0,
        cursor: None,
        limit: None,
    });
    match connection.ask(inbox).await.unwrap() {
        ServerFrame::Inbox(page) => assert!(page.conversations.is_empty(), "{page:?}"),
        other => panic!("{other:?}"),
    }
    // Nothing was pushed since, by what reaches a second device just connected either.
    while let Some(event) = connection.events.pop_front() {
        if let ServerFrame::Entries(entries) = &event {
            assert!(
                entries.entries.iter().all(|entry| entry.content.is_none()),
                "{entries:?}"
            );
        }
    }
    ben.level().await;
    assert_eq!(ben.memory().said(talk), ["old news"], "what it had, it has");
    all_level(world.port(), &[&ada, &cyd]).await;
}
