//! The state machine by itself: frames in, counts and latencies out, no server.

use super::*;
use crate::args::{Args, Command};
use crate::arrivals::Faults;
use clap::Parser;
use tidings_core::entry::Kind as LogKind;
use tidings_core::{ClientId, DeviceId, Generation, Time};
use tidings_protocol::entry::{Content, Entry};
use tidings_protocol::mark::{MarkStep, Marks};
use tidings_protocol::send::Sent;
use tidings_protocol::short::Said;
use tidings_protocol::{Code, Encoding, Problem};

struct Table {
    chat: Chat,
    sessions: Sessions,
    start: Instant,
}

/// A pair (or as few as each can have its partners) that has begun; the measured time is the first ten seconds.
fn pair(arguments: &str) -> Table {
    let line = format!("tidings-load chat --warm-up-seconds 0 {arguments}");
    let Command::Chat(args) = Args::parse_from(line.split_whitespace()).command else {
        panic!("not a chat");
    };
    let account = |byte| Account {
        user: UserId([byte; 16]),
        token: String::new(),
    };
    let accounts: Vec<_> = (1..=2 * args.partners as u8).map(account).collect();
    let mut chat = Chat::new(&args, false, &accounts, 0, 1);
    let mut sessions = Sessions::new(accounts.iter().map(|_| String::new()), Encoding::Cbor);
    let start = Instant::now();
    chat.begin(start, &mut sessions);
    Table {
        chat,
        sessions,
        start,
    }
}

impl Table {
    fn handle(&mut self, millis: u64, index: usize, frame: ServerFrame) {
        let now = self.start + Duration::from_millis(millis);
        self.chat
            .handle_frame(now, index, frame, &mut self.sessions);
        self.chat.handle_pause(now, index, &mut self.sessions);
    }

    fn sent(&self, id: u64, seq: u64) -> ServerFrame {
        ServerFrame::Sent(Sent {
            id,
            client_id: ClientId([0; 16]),
            conversation: self.chat.peers[0].conversation,
            seq,
            at: Time(0),
            generation: Generation([0; 16]),
        })
    }

    /// A message of session 0's user.
    fn entries(&self, number: u32, seq: u64) -> ServerFrame {
        let letter = Letter::new(number, self.start, self.start);
        ServerFrame::Entries(sync::Entries {
            conversation: self.chat.peers[0].conversation,
            from: seq,
            to: seq,
            membership_seq: 1,
            entries: vec![Entry {
                device: Some(DeviceId([1; 16])),
                ordinal: seq,
                counts: true,
                content: Some(Content::text(letter.text(30))),
                ..Entry::bare(seq, LogKind::Message, UserId([1; 16]), Time(0))
            }],
        })
    }

    /// How far session 1's user is.
    fn marks(&self, delivered: Option<u64>, shown: Option<u64>) -> ServerFrame {
        ServerFrame::Marks(Marks {
            conversation: self.chat.peers[0].conversation,
            marks: vec![MarkStep {
                user: UserId([2; 16]),
                at: Time(0),
                delivered,
                shown,
                read: None,
            }],
        })
    }

    fn sums(self) -> Sums {
        let mut sums = Sums::default();
        sums.add(self.chat);
        sums
    }
}

const FIRST: u64 = crate::engine::FIRST_REQUEST_ID;

#[test]
fn every_tick_has_its_latency() {
    let mut table = pair("--until read");
    table.handle(2, 0, table.sent(FIRST, 2));
    table.handle(3, 1, table.entries(0, 2));
    table.handle(5, 0, table.marks(Some(2), None));
    assert_eq!(table.chat.peers[0].number_next, 1, "not read yet");
    table.handle(8, 0, table.marks(None, Some(2)));
    assert_eq!(table.chat.peers[0].number_next, 2, "the next one went");
    assert_eq!(table.chat.peers[1].acknowledged, 2);
    let sums = table.sums();
    assert_eq!(sums.accepted_in_window, 1);
    for (latency, millis) in [
        (&sums.to_sent, 2.0),
        (&sums.to_arrival, 3.0),
        (&sums.to_delivered, 5.0),
        (&sums.to_read, 8.0),
    ] {
        assert_eq!(latency.count(), 1);
        // Both sessions began a moment after the start.
        let took = latency.quantile_ms(1.0);
        assert!((took - millis).abs() < 0.9, "{took} is not {millis}");
    }
    assert_eq!(sums.faults, Faults::default());
    assert_eq!(sums.ticks_missing, 0);
    assert_eq!(sums.unanswered, 2, "one of each side is under way");
}

#[test]
fn a_tick_may_be_quicker_than_the_answer() {
    let mut table = pair("");
    table.handle(1, 1, table.entries(0, 2));
    table.handle(2, 0, table.marks(Some(2), Some(2)));
    table.handle(3, 0, table.sent(FIRST, 2));
    let sums = table.sums();
    assert_eq!((sums.to_delivered.count(), sums.to_read.count()), (1, 1));
    assert_eq!(sums.ticks_missing, 0);
}

#[test]
fn what_is_missing_is_counted() {
    let mut table = pair("--pipeline 3");
    for number in 0..3 {
        table.handle(1, 0, table.sent(FIRST + number, 2 + number));
    }
    // The first never arrives, the third before the second and twice.
    for (number, seq) in [(2, 4), (1, 3), (2, 4)] {
        table.handle(2, 1, table.entries(number, seq));
    }
    table.handle(3, 0, table.marks(Some(3), None));
    let sums = table.sums();
    let expected = Faults {
        lost: 1,
        doubled: 1,
        reordered: 1,
    };
    assert_eq!(sums.faults, expected);
    assert_eq!(sums.ticks_missing, 1 + 3);
}

#[test]
fn a_refusal_for_now_delays_and_one_for_good_is_no_loss() {
    let mut table = pair("");
    let error = |code| {
        ServerFrame::Error(problem::ErrorFrame {
            id: Some(FIRST),
            problem: Problem::new(code),
        })
    };
    table.handle(1, 0, error(Code::Busy));
    assert_eq!(table.chat.peers[0].number_next, 1);
    let before = table.sessions.traffic.up_frames;
    let step = table
        .chat
        .poll(table.start + Duration::from_secs(1), &mut table.sessions);
    assert!(matches!(step, Step::WaitUntil(_)));
    assert_eq!(table.sessions.traffic.up_frames, before + 1, "sent again");
    table.handle(1_100, 0, error(Code::Blocked));
    let sums = table.sums();
    assert_eq!((sums.refusals.for_now, sums.refusals.for_good), (1, 1));
    assert_eq!(sums.faults, Faults::default());
}

#[test]
fn appointed_times_are_kept_whatever_the_answers() {
    let mut table = pair("--mode open --rate 1000");
    let now = table.start + Duration::from_micros(9_500);
    let step = table.chat.poll(now, &mut table.sessions);
    assert_eq!(table.sessions.traffic.up_frames, 10);
    assert_eq!(table.chat.peers[0].number_next, 5);
    let next = table.start + Duration::from_millis(10);
    assert_eq!(step, Step::WaitUntil(next));
    // The clock of a message starts at its appointed time.
    table.handle(10, 0, table.sent(FIRST + 4, 2));
    let took = table.sums().to_sent.quantile_ms(1.0);
    assert!((took - 2.0).abs() < 0.1, "{took}");
}

#[test]
fn sessions_write_to_their_partners_in_turn() {
    let mut table = pair("--partners 2");
    assert_eq!(table.sessions.traffic.up_frames, 4, "one of each session");
    let numbers = |table: &Table| -> Vec<u32> {
        let peers = table.chat.peers.iter();
        peers.map(|peer| peer.number_next).collect()
    };
    assert_eq!(numbers(&table), [1, 0, 1, 0, 1, 0, 1, 0]);
    table.handle(1, 0, table.sent(FIRST, 2));
    assert_eq!(numbers(&table), [1, 1, 1, 0, 1, 0, 1, 0]);
    // Session 1's user is the first partner of session 0, whose second one has not been answered.
    table.handle(2, 1, table.entries(0, 2));
    table.handle(3, 0, table.marks(Some(2), Some(2)));
    // Answers that name no conversation are told by their request.
    let said = Said {
        id: FIRST + 1,
        seq: 2,
        at: Time(0).into(),
        ordinal: None,
    };
    let problem = Problem::new(Code::Busy);
    let id = Some(FIRST + 3);
    table.handle(4, 0, ServerFrame::Said(said));
    assert_eq!(numbers(&table), [2, 1, 1, 0, 1, 0, 1, 0]);
    table.handle(5, 0, table.sent(FIRST + 2, 3));
    assert_eq!(numbers(&table), [2, 2, 1, 0, 1, 0, 1, 0]);
    let busy = ServerFrame::Error(problem::ErrorFrame { id, problem });
    table.handle(6, 0, busy);
    let before = table.sessions.traffic.up_frames;
    let later = table.start + Duration::from_secs(1);
    table.chat.poll(later, &mut table.sessions);
    assert_eq!(table.sessions.traffic.up_frames, before + 1, "sent again");
    let sums = table.sums();
    assert_eq!(sums.refusals.for_now, 1);
    assert_eq!((sums.to_arrival.count(), sums.to_read.count()), (1, 1));
    assert_eq!((sums.ticks_missing, sums.unanswered), (4, 4));
    assert_eq!(sums.faults.lost, 2, "accepted, and never seen to arrive");
}
