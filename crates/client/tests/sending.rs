//! The order of sends, and what is said to be first of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use common::{Desk, GENERATION, HERE, group};
use tidings_client::{CancelError, Recipient};
use tidings_core::ClientId;
use tidings_protocol::entry::Content;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::send::{Send, Sent};
use tidings_protocol::{Code, Problem, ServerFrame};

fn say(desk: &mut Desk, text: &str) -> ClientId {
    let content = Content {
        text: text.to_owned(),
        ..Content::default()
    };
    let to = Recipient::Conversation(HERE);
    let client_id = desk.client.send_message(desk.now, to, content, None);
    desk.work();
    client_id
}

fn refuse(desk: &mut Desk, send: &Send, code: Code) {
    desk.hear(ServerFrame::Error(ErrorFrame {
        id: Some(send.id),
        problem: Problem::new(code),
    }));
}

fn accept(desk: &mut Desk, send: &Send, seq: u64) {
    desk.hear(ServerFrame::Sent(Sent {
        id: send.id,
        client_id: send.client_id,
        conversation: HERE,
        seq,
        at: desk.now,
        generation: GENERATION,
    }));
}

/// Which are sent, and which of them are said to be first.
fn said(sends: &[Send]) -> Vec<(ClientId, bool)> {
    sends
        .iter()
        .map(|send| (send.client_id, send.first))
        .collect()
}

#[test]
fn the_head_of_the_outbox_is_first_and_those_behind_it_do_not_wait_for_its_answer() {
    let mut desk = Desk::with_inbox(vec![group()]);
    let [a, b, c] = ["a", "b", "c"].map(|text| say(&mut desk, text));
    let sends = desk.sends();
    assert_eq!(said(&sends), [(a, true), (b, false), (c, false)]);
    accept(&mut desk, &sends[0], 2);
    accept(&mut desk, &sends[1], 3);
    assert_eq!(desk.sends(), []);
    // Once it is refused for now, it is the head that comes again.
    refuse(&mut desk, &sends[2], Code::Busy);
    desk.wait(5_000);
    assert_eq!(said(&desk.sends()), [(c, true)]);
}

#[test]
fn cancelled_send_no_longer_holds_up_those_behind_it() {
    let mut desk = Desk::with_inbox(vec![group()]);
    let [a, b, c] = ["a", "b", "c"].map(|text| say(&mut desk, text));
    let sends = desk.sends();
    assert_eq!(
        desk.client.cancel(desk.now, a),
        Err(CancelError::MayBeSent),
        "while nobody knows"
    );
    refuse(&mut desk, &sends[0], Code::RateLimited);
    desk.client.cancel(desk.now, a).unwrap();
    desk.wait(5_000);
    assert_eq!(desk.sends(), [], "only once those behind it were answered");
    refuse(&mut desk, &sends[1], Code::Behind);
    refuse(&mut desk, &sends[2], Code::Behind);
    desk.wait(5_000);
    assert_eq!(said(&desk.sends()), [(b, true), (c, false)]);
}
