//! Short forms: used where a handle says it all, understood wherever the server uses them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use common::{Desk, GENERATION, HERE, ME, OTHER, group};
use tidings_client::{ItemBody, ItemState, Recipient};
use tidings_core::{Time, digest};
use tidings_protocol::entry::{Content, Role};
use tidings_protocol::mark::MemberMarks;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::session::{Bye, Done};
use tidings_protocol::short::{
    Handle, Message, Messages, Said, Say, Seen, ShortStep, ShortTime, Steps,
};
use tidings_protocol::sync::{Conversation, HistoryPage, Member};
use tidings_protocol::{ClientFrame, Code, Problem, ServerFrame};

fn here() -> Handle {
    Handle(digest::handle(HERE, GENERATION))
}

fn other() -> Handle {
    Handle(digest::user_handle(OTHER))
}

/// Connected, level with a group of two that has one entry, and looking at it.
fn level() -> Desk {
    let member = |user| Member {
        user,
        role: Role::Member,
        joined: 1,
        marks: MemberMarks::default(),
    };
    let summary = Conversation {
        members: vec![member(ME), member(OTHER)],
        ..group()
    };
    let mut desk = Desk::in_short_forms(vec![summary]);
    for frame in desk.sent() {
        if let ClientFrame::History(request) = frame {
            desk.hear(ServerFrame::History(HistoryPage {
                id: request.id,
                conversation: HERE,
                generation: GENERATION,
                from: 1,
                to: 1,
                entries: Vec::new(),
                alterations: Vec::new(),
                head: 1,
                trimmed: 0,
                more: false,
            }));
        }
    }
    desk.client.open(desk.now, HERE);
    desk.work();
    desk.wait(1_000);
    desk.sent();
    desk
}

fn say(desk: &mut Desk, text: &str) -> Vec<ClientFrame> {
    let content = Content {
        text: text.to_owned(),
        ..Content::default()
    };
    desk.client
        .send_message(desk.now, Recipient::Conversation(HERE), content, None);
    desk.work();
    desk.sent()
}

fn the_say(frames: Vec<ClientFrame>) -> Say {
    match <[ClientFrame; 1]>::try_from(frames) {
        Ok([ClientFrame::Say(say)]) => say,
        other => panic!("{other:?}"),
    }
}

fn heard(desk: &mut Desk, from: u64, texts: &[&str]) {
    let message = |text: &&str| Message {
        author: Some(other()),
        at: ShortTime::from(Time(10_500 + from)),
        text: (*text).to_owned(),
        reply_to: None,
        user: None,
    };
    desk.hear(ServerFrame::Messages(Messages {
        conversation: here(),
        from,
        ordinal: from - 1,
        messages: texts.iter().map(message).collect(),
    }));
}

fn shown(desk: &Desk) -> Vec<(String, ItemState)> {
    let items = desk.client.timeline(HERE).unwrap().items.iter();
    let text = |body: &ItemBody| match body {
        ItemBody::Message(content) => Some(content.text.clone()),
        _ => None,
    };
    items
        .filter_map(|item| Some((text(&item.body)?, item.state.clone())))
        .collect()
}

#[test]
fn an_answer_stands_for_the_event() {
    let mut desk = level();
    let say = the_say(say(&mut desk, "hello"));
    assert_eq!((say.conversation, say.after), (here(), 1));
    desk.hear(ServerFrame::Said(Said {
        id: say.id,
        seq: 2,
        at: ShortTime::from(Time(10_400)),
        ordinal: Some(1),
    }));
    let details = desk.client.conversation(HERE).unwrap();
    assert_eq!((details.head, details.position), (2, 2));
    assert_eq!(desk.client.outbox_len(), 0);
    assert_eq!(shown(&desk), [("hello".to_owned(), ItemState::Sent)]);
    desk.hear(ServerFrame::Steps(Steps {
        conversation: here(),
        steps: vec![ShortStep {
            user: other(),
            at: ShortTime::from(Time(10_500)),
            delivered: Some(2),
            shown: None,
        }],
    }));
    assert_eq!(shown(&desk), [("hello".to_owned(), ItemState::Delivered)]);
}

#[test]
fn what_others_say_is_counted_and_acknowledged() {
    let mut desk = level();
    heard(&mut desk, 2, &["one", "two"]);
    let details = desk.client.conversation(HERE).unwrap();
    assert_eq!((details.position, details.view.unread), (3, 2));
    desk.client.mark_read(desk.now, HERE, 3);
    desk.wait(1_000);
    let marks: Vec<Seen> = desk
        .sent()
        .into_iter()
        .filter_map(|frame| match frame {
            ClientFrame::Seen(seen) => Some(seen),
            _ => None,
        })
        .collect();
    let [seen] = marks.as_slice() else {
        panic!("{marks:?}");
    };
    assert_eq!((seen.delivered, seen.read), (Some(3), Some(3)));
    assert!(!seen.tell, "the counts at the head are known");
    desk.hear(ServerFrame::Done(Done {
        id: seen.id.unwrap(),
    }));
    assert_eq!(desk.client.conversation(HERE).unwrap().view.unread, 0);
}

#[test]
fn a_gap_is_asked_for() {
    let mut desk = level();
    heard(&mut desk, 4, &["later"]);
    let sent = desk.sent();
    let asks = |frame: &ClientFrame| {
        matches!(
            frame,
            ClientFrame::History(_) | ClientFrame::Conversation(_)
        )
    };
    assert!(sent.iter().any(asks), "{sent:?}");
}

#[test]
fn a_second_try_goes_in_the_long_form() {
    let mut desk = level();
    let say = the_say(say(&mut desk, "hello"));
    desk.hear(ServerFrame::Error(ErrorFrame {
        id: Some(say.id),
        problem: Problem::new(Code::Busy),
    }));
    desk.wait(2_000);
    let sends = desk.sends();
    assert_eq!(sends.len(), 1, "{sends:?}");
    assert_eq!(sends[0].client_id, say.client_id);
    assert_eq!(sends[0].after.unwrap().seq, 1);
}

#[test]
fn what_means_nothing_here_is_looked_for() {
    let mut desk = level();
    desk.hear(ServerFrame::Messages(Messages {
        conversation: Handle(here().0 ^ 1),
        from: 2,
        ordinal: 1,
        messages: Vec::new(),
    }));
    let sent = desk.sent();
    assert!(
        matches!(sent.as_slice(), [ClientFrame::Inbox(_)]),
        "{sent:?}"
    );
    // While it reads the inbox it may not be level with the server: no handles.
    let frames = say(&mut desk, "hello");
    assert!(
        matches!(frames.as_slice(), [ClientFrame::Send(_)]),
        "{frames:?}"
    );
}

#[test]
fn a_server_that_knows_no_handle_is_spoken_to_at_length() {
    let mut desk = level();
    the_say(say(&mut desk, "hello"));
    desk.hear(ServerFrame::Bye(Bye {
        reason: Code::UnknownHandle,
        reconnect_after_ms: Some(10),
    }));
    desk.wait(1_000);
    let sent = desk.sent();
    let [ClientFrame::Hello(hello)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert!(!hello.short);
}
