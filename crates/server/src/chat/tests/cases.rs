//! Sending: ticks, retries, order, groups.

use tidings_protocol::entry::{Content, Settings};
use tidings_protocol::send::{Action, EditAction, InviteAction, ReactAction, Send, TargetAction};
use tidings_protocol::sync::HistoryRequest;
use tidings_protocol::{Code, ServerFrame};
use tidings_store::memory::AppendFailure;

use super::world::Where::{In, To};
use super::world::{World, act, after, history, said};

#[tokio::test]
async fn a_direct_conversation_begins_with_its_first_message() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let sent = world.say(&anna, To(ben.caller.user), "hello").await;
    assert_eq!(
        sent.seq, 2,
        "the first entry is the conversation's beginning"
    );
    let answer = world.say(&ben, To(anna.caller.user), "hi").await;
    assert_eq!((answer.conversation, answer.seq), (sent.conversation, 3));
    assert_eq!(world.texts(&anna, sent.conversation).await, ["hello", "hi"]);

    let frames = ben.frames();
    assert!(
        matches!(frames.first(), Some(ServerFrame::Conversation(frame)) if frame.conversation.head == 1)
    );
    let Some(ServerFrame::Entries(entries)) = frames.get(1) else {
        panic!("{frames:?}")
    };
    assert_eq!((entries.from, entries.to), (2, 2));
    assert_eq!(
        entries.entries[0].client_id, None,
        "a client id is told to the author's devices only"
    );
}

#[tokio::test]
async fn a_refused_first_message_begins_nothing() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let problem = world
        .send(&anna, said(To(ben.caller.user), "  "))
        .await
        .unwrap_err();
    assert_eq!(problem.code, Code::Invalid);
    assert!(world.inbox(&anna).await.is_empty());
    let nobody = said(To(tidings_core::UserId([9; 16])), "hello");
    assert_eq!(
        world.send(&anna, nobody).await.unwrap_err().code,
        Code::NotFound
    );
}

#[tokio::test]
async fn a_retry_is_the_same_entry() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let first = said(To(ben.caller.user), "hello");
    let sent = world.send(&anna, first.clone()).await.unwrap();
    let mut other_bytes = said(To(ben.caller.user), "something else");
    other_bytes.client_id = first.client_id;
    assert_eq!(world.send(&anna, other_bytes).await.unwrap().seq, sent.seq);
    // Far behind, and after a restart.
    for number in 0..200 {
        world
            .say(&ben, In(sent.conversation), &number.to_string())
            .await;
    }
    assert_eq!(
        world.send(&anna, first.clone()).await.unwrap().seq,
        sent.seq
    );
    assert_eq!(
        world.restarted().send(&anna, first).await.unwrap().seq,
        sent.seq
    );
}

#[tokio::test]
async fn a_retry_within_one_long_batch_is_the_same_entry() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "hello").await;
    let mut sends: Vec<_> = (0..200)
        .map(|number| said(In(begun.conversation), &number.to_string()))
        .collect();
    for send in &mut sends {
        send.after = Some(after(&begun));
    }
    sends.push(sends[0].clone());
    let answers: Vec<_> = sends
        .into_iter()
        .map(|send| world.send_later(&anna, send))
        .collect();
    let mut seqs = Vec::new();
    for answer in answers {
        seqs.push(answer.await.unwrap().unwrap().seq);
    }
    assert_eq!(seqs[200], seqs[0]);
    assert_eq!(world.texts(&ben, begun.conversation).await.len(), 201);
}

#[tokio::test]
async fn retry_after_removal() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let group = world.group(&anna, &[&ben], Settings::default()).await;
    let message = said(In(group), "hello");
    let sent = world.send(&ben, message.clone()).await.unwrap();
    world.remove(&anna, group, &ben).await;
    assert_eq!(world.send(&ben, message).await.unwrap().seq, sent.seq);
    assert_eq!(
        world
            .send(&ben, said(In(group), "again"))
            .await
            .unwrap_err()
            .code,
        Code::NotFound
    );
    assert_eq!(
        world.after(&ben, group, 0).await.unwrap_err().code,
        Code::NotFound,
        "served nothing, old entries included"
    );
    let told = ben.frames();
    assert!(
        matches!(told.last(), Some(ServerFrame::Gone(gone)) if gone.seq == 3),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_lost_answer_of_the_store_makes_no_second_entry() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "hello").await;
    let message = said(In(begun.conversation), "once");
    world.store.fail_next(AppendFailure::AnswerLost);
    assert_eq!(
        world.send(&anna, message.clone()).await.unwrap_err().code,
        Code::Busy
    );
    assert_eq!(world.send(&anna, message).await.unwrap().seq, 3);
    assert_eq!(
        world.texts(&ben, begun.conversation).await,
        ["hello", "once"]
    );
}

#[tokio::test]
async fn sends_behind_one_that_was_refused_for_now_wait_for_it() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "hello").await;
    let (first, second) = (
        said(In(begun.conversation), "first"),
        said(In(begun.conversation), "second"),
    );
    world.store.fail_next(AppendFailure::NotDone);
    assert_eq!(
        world.send(&anna, first.clone()).await.unwrap_err().code,
        Code::Busy
    );
    assert_eq!(
        world.send(&anna, second.clone()).await.unwrap_err().code,
        Code::Behind
    );
    // Another device, another order.
    world.say(&ben, In(begun.conversation), "not behind").await;
    world.send(&anna, first).await.unwrap();
    world.send(&anna, second).await.unwrap();
    assert_eq!(
        world.texts(&ben, begun.conversation).await,
        ["hello", "not behind", "first", "second"]
    );
}

#[tokio::test]
async fn a_cancelled_send_no_longer_holds_up_those_behind_it() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "hello").await;
    let here = |text| said(In(begun.conversation), text);
    let (cancelled, second, third) = (here("cancelled"), here("second"), here("third"));
    world.store.fail_next(AppendFailure::NotDone);
    assert_eq!(
        world.send(&anna, cancelled).await.unwrap_err().code,
        Code::Busy
    );
    assert_eq!(
        world.send(&anna, second.clone()).await.unwrap_err().code,
        Code::Behind
    );
    // It is the first now; refused for now itself, it is what the next one is behind.
    let second = Send {
        first: true,
        ..second
    };
    world.store.fail_next(AppendFailure::NotDone);
    assert_eq!(
        world.send(&anna, second.clone()).await.unwrap_err().code,
        Code::Busy
    );
    assert_eq!(
        world.send(&anna, third.clone()).await.unwrap_err().code,
        Code::Behind
    );
    world.send(&anna, second).await.unwrap();
    world.send(&anna, third).await.unwrap();
    assert_eq!(
        world.texts(&ben, begun.conversation).await,
        ["hello", "second", "third"]
    );
}

#[tokio::test]
async fn a_position_of_another_log_is_unsettled() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "hello").await;
    let mut send = said(In(begun.conversation), "again");
    send.after = Some(tidings_protocol::send::Position {
        generation: tidings_core::Generation([1; 16]),
        seq: 1,
    });
    assert_eq!(
        world.send(&anna, send.clone()).await.unwrap_err().code,
        Code::Unsettled
    );
    send.after = Some(tidings_protocol::send::Position {
        seq: 99,
        ..after(&begun)
    });
    assert_eq!(
        world.send(&anna, send).await.unwrap_err().code,
        Code::Unsettled
    );
}

#[tokio::test]
async fn leave_and_rejoin() {
    let world = World::new();
    let (anna, mut ben) = (world.person("anna").await, world.person("ben").await);
    let group = world.group(&anna, &[&ben], Settings::default()).await;
    world.say(&anna, In(group), "before").await;
    world.leave(&ben, group).await;
    world.say(&anna, In(group), "while away").await;
    world.invite(&anna, group, &ben).await;
    world.say(&anna, In(group), "after").await;
    assert_eq!(
        world.texts(&ben, group).await,
        ["before", "after"],
        "nothing of the time between"
    );
    assert_eq!(
        world.conversation(&ben, group).await.unwrap().unread,
        1,
        "counted from the last joining"
    );
    world.disconnect(&mut ben);
    world.connect(&mut ben).await;
    assert_eq!(world.digest(&ben), world.digest_of_inbox(&ben).await);
}

#[tokio::test]
async fn a_newcomer_sees_earlier_messages_only_if_the_history_is_shared() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    for (share_history, expected) in [(false, vec!["after"]), (true, vec!["before", "after"])] {
        let settings = Settings {
            share_history,
            ..Settings::default()
        };
        let group = world.group(&anna, &[], settings).await;
        world.say(&anna, In(group), "before").await;
        world.invite(&anna, group, &ben).await;
        world.say(&anna, In(group), "after").await;
        assert_eq!(world.texts(&ben, group).await, expected);
    }
}

#[tokio::test]
async fn creating_a_group_twice_makes_one() {
    let world = World::new();
    let anna = world.person("anna").await;
    let create = act(None, Action::Create(Default::default()));
    let first = world.send(&anna, create.clone()).await.unwrap();
    let second = world.send(&anna, create).await.unwrap();
    assert_eq!(first.conversation, second.conversation);
    assert_eq!(world.inbox(&anna).await.len(), 1);
    let itself = Action::Invite(InviteAction {
        users: vec![anna.caller.user],
    });
    assert_eq!(
        world
            .send(&anna, act(Some(first.conversation), itself))
            .await
            .unwrap_err()
            .code,
        Code::Invalid
    );
}

#[tokio::test]
async fn page_around_an_old_message_that_was_edited_or_deleted_since() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let begun = world.say(&anna, To(ben.caller.user), "to be edited").await;
    let group = begun.conversation;
    let deleted = world.say(&anna, In(group), "to be deleted").await;
    for number in 0..300 {
        world.say(&ben, In(group), &number.to_string()).await;
    }
    let content = |text: &str| Content {
        text: text.to_owned(),
        ..Content::default()
    };
    for text in ["edited once", "edited twice"] {
        let edit = Action::Edit(EditAction {
            target: begun.seq,
            content: content(text),
        });
        world.send(&anna, act(Some(group), edit)).await.unwrap();
    }
    for device in [&anna, &ben] {
        let react = Action::React(ReactAction {
            target: begun.seq,
            emoji: "👍".to_owned(),
            on: true,
        });
        world.send(device, act(Some(group), react)).await.unwrap();
    }
    let delete = Action::Delete(TargetAction {
        target: deleted.seq,
    });
    world.send(&anna, act(Some(group), delete)).await.unwrap();

    let request = HistoryRequest {
        around: Some(begun.seq),
        limit: Some(4),
        ..history(group)
    };
    let page = world.chat.history(ben.caller, request).await.unwrap();
    assert_eq!((page.from, page.to), (1, 3));
    let edited = page
        .alterations
        .iter()
        .find(|one| one.target == begun.seq)
        .unwrap();
    let text = edited
        .edit
        .as_ref()
        .unwrap()
        .content
        .as_ref()
        .unwrap()
        .text
        .as_str();
    assert_eq!(text, "edited twice");
    assert_eq!(
        (edited.reactions[0].count, edited.reactions[0].mine),
        (2, true)
    );
    let gone = page
        .entries
        .iter()
        .find(|entry| entry.seq == deleted.seq)
        .unwrap();
    assert_eq!(gone.content, None);
    assert!(
        page.alterations
            .iter()
            .any(|one| one.target == deleted.seq && one.deleted.is_some())
    );

    let edit = Action::Edit(EditAction {
        target: deleted.seq,
        content: content("back again"),
    });
    assert_eq!(
        world
            .send(&anna, act(Some(group), edit))
            .await
            .unwrap_err()
            .code,
        Code::TargetErased
    );
}

#[tokio::test]
async fn an_invite_link_lets_in_until_it_is_withdrawn() {
    use tidings_protocol::blob::Blob;
    use tidings_protocol::entry::SettingsChange;
    use tidings_protocol::send::JoinAction;
    let world = World::new();
    let (anna, ben, carl) = (
        world.person("anna").await,
        world.person("ben").await,
        world.person("carl").await,
    );
    let group = world.group(&anna, &[], Settings::default()).await;
    let configure = |on| {
        Action::Configure(SettingsChange {
            invite_link: Some(on),
            ..SettingsChange::default()
        })
    };
    world
        .send(&anna, act(Some(group), configure(true)))
        .await
        .unwrap();
    let link = world
        .conversation(&anna, group)
        .await
        .unwrap()
        .settings
        .invite_link
        .unwrap();
    let join = |link: &Blob| act(Some(group), Action::Join(JoinAction { link: link.clone() }));
    world.send(&ben, join(&link)).await.unwrap();
    assert_eq!(
        world.send(&ben, join(&link)).await.unwrap_err().code,
        Code::NoChange
    );
    world
        .send(&anna, act(Some(group), configure(false)))
        .await
        .unwrap();
    assert_eq!(
        world.send(&carl, join(&link)).await.unwrap_err().code,
        Code::LinkInvalid
    );
}

#[tokio::test]
async fn the_nil_client_id_is_nobodys() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let mut send = said(To(ben.caller.user), "hello");
    send.client_id = tidings_core::ClientId([0; 16]);
    assert_eq!(
        world.send(&anna, send).await.unwrap_err().code,
        Code::Invalid
    );
}

#[tokio::test]
async fn sends_behind_a_refused_first_message_keep_their_order() {
    let world = World::new();
    let (anna, ben) = (world.person("anna").await, world.person("ben").await);
    let empty = said(To(ben.caller.user), "");
    let (second, third) = (
        said(To(ben.caller.user), "second"),
        said(To(ben.caller.user), "third"),
    );
    // The first two share a batch; the third comes once they are answered.
    let answers = [
        world.send_later(&anna, empty),
        world.send_later(&anna, second.clone()),
    ];
    let [empty, held] = answers.map(|answer| async { answer.await.unwrap() });
    assert_eq!(empty.await.unwrap_err().code, Code::Invalid);
    let held = held.await;
    if let Err(problem) = held {
        assert_eq!(problem.code, Code::Busy);
        assert_eq!(
            world.send(&anna, third.clone()).await.unwrap_err().code,
            Code::Behind
        );
    }
    world.send(&anna, second).await.unwrap();
    let sent = world.send(&anna, third).await.unwrap();
    assert_eq!(
        world.texts(&ben, sent.conversation).await,
        ["second", "third"]
    );
}

#[tokio::test]
async fn strangers_load_nothing() {
    let world = World::new();
    let (anna, ben, carl) = (
        world.person("anna").await,
        world.person("ben").await,
        world.person("carl").await,
    );
    let sent = world.say(&anna, To(ben.caller.user), "hello").await;
    let world = world.restarted();
    for id in [sent.conversation, tidings_core::ConversationId([7; 16])] {
        assert_eq!(
            world.after(&carl, id, 0).await.unwrap_err().code,
            Code::NotFound
        );
        assert!(!world.chat.is_in_memory(id));
    }
    let nowhere = tidings_core::ConversationId([8; 16]);
    assert_eq!(
        world
            .send(&carl, said(In(nowhere), "hello"))
            .await
            .unwrap_err()
            .code,
        Code::NotFound
    );
    world.settle().await;
    assert!(!world.chat.is_in_memory(nowhere));
}
