//! Who comes back into a group may see more than before.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use common::{DEVICE, Desk, GENERATION, HERE, ME, OTHER, group};
use tidings_core::{Kind, Time};
use tidings_protocol::entry::{Content, Entry, Join};
use tidings_protocol::sync::{
    Conversation, ConversationFrame, Gone, HistoryPage, HistoryRequest, ReadMark,
};
use tidings_protocol::{ClientFrame, ServerFrame};

/// The log: all but two are messages of somebody else; I come in at 4, go at 6, and come back at 9.
const HEAD: u64 = 10;

fn entry_at(seq: u64, from_of_return: u64) -> Entry {
    let kind = match seq {
        1 => Kind::Create,
        4 | 9 => Kind::Join,
        6 => Kind::Leave,
        _ => Kind::Message,
    };
    let author = if seq == 6 { ME } else { OTHER };
    let says = kind == Kind::Message;
    Entry {
        device: Some(DEVICE),
        ordinal: seq,
        counts: says,
        content: says.then(|| Content::text(format!("message {seq}"))),
        join: (kind == Kind::Join).then(|| Join {
            users: vec![ME],
            from: if seq == 4 { 4 } else { from_of_return },
        }),
        ..Entry::bare(seq, kind, author, Time(1_000 + seq))
    }
}

fn summary(head: u64, joined: u64, from: u64) -> Conversation {
    Conversation {
        head,
        at: Time(1_000 + head),
        ordinal: head,
        from,
        joined: ReadMark {
            seq: joined,
            ..ReadMark::default()
        },
        membership_seq: joined,
        ..group()
    }
}

fn asked(desk: &mut Desk) -> Vec<HistoryRequest> {
    let history = |frame| match frame {
        ClientFrame::History(request) => Some(request),
        _ => None,
    };
    desk.sent().into_iter().filter_map(history).collect()
}

/// Answers what was asked, and what is asked then, as a server that shows these. Answers what was asked.
fn serve(desk: &mut Desk, head: u64, from_of_return: u64, visible: &[u64]) -> Vec<HistoryRequest> {
    let mut all = Vec::new();
    loop {
        let requests = asked(desk);
        if requests.is_empty() {
            return all;
        }
        for request in requests {
            let (from, to) = match (request.after, request.before) {
                (Some(after), _) => (after + 1, head),
                (_, Some(before)) => (1, before - 1),
                _ => panic!("{request:?}"),
            };
            let seqs = visible.iter().filter(|seq| (from..=to).contains(*seq));
            let page = HistoryPage {
                id: request.id,
                conversation: HERE,
                generation: GENERATION,
                from,
                to,
                entries: seqs.map(|seq| entry_at(*seq, from_of_return)).collect(),
                alterations: Vec::new(),
                head,
                trimmed: 0,
                more: false,
            };
            all.push(request);
            desk.hear(ServerFrame::History(page));
        }
    }
}

fn on_screen(desk: &Desk) -> Vec<u64> {
    let view = desk.client.timeline(HERE).unwrap();
    view.items.iter().filter_map(|item| item.seq).collect()
}

/// A device that was in from 4 to 6, saw all of it, and comes back at 9 to what `from` says.
fn back(from: u64, visible: &[u64]) -> (Desk, Vec<HistoryRequest>) {
    let mut desk = Desk::with_inbox(vec![summary(6, 4, 4)]);
    desk.client.open(desk.now, HERE);
    desk.work();
    serve(&mut desk, 6, from, &[4, 5, 6]);
    assert_eq!(on_screen(&desk), [4, 5, 6]);
    desk.hear(ServerFrame::Gone(Gone {
        conversation: HERE,
        seq: 6,
    }));
    desk.hear(ServerFrame::Conversation(Box::new(ConversationFrame {
        id: None,
        conversation: summary(HEAD, 9, from.min(4)),
    })));
    let requests = serve(&mut desk, HEAD, from, visible);
    (desk, requests)
}

#[test]
fn history_shared_meanwhile_is_paged_when_somebody_looks() {
    let all: Vec<u64> = (1..=HEAD).collect();
    let (mut desk, requests) = back(1, &all);
    let after: Vec<_> = requests
        .iter()
        .filter_map(|request| request.after)
        .collect();
    assert_eq!(after, [6], "what came since, first");
    for _ in 0..3 {
        desk.client.load_older(desk.now, HERE);
        desk.work();
        serve(&mut desk, HEAD, 1, &all);
    }
    assert_eq!(on_screen(&desk), all);
    assert!(!desk.client.timeline(HERE).unwrap().older);
    let details = desk.client.conversation(HERE).unwrap();
    assert_eq!((details.position, details.head), (HEAD, HEAD));
}

#[test]
fn what_is_not_shared_is_not_asked_for_again() {
    let visible = [4, 5, 6, 9, 10];
    let (mut desk, requests) = back(9, &visible);
    desk.client.load_older(desk.now, HERE);
    desk.work();
    assert_eq!(serve(&mut desk, HEAD, 9, &visible), []);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(on_screen(&desk), visible);
}
