//! Pictures of the screen, in letters.

use expect_test::{Expect, expect};
use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use tidings_client::{
    ConversationDetails, ConversationView, Item, ItemBody, ItemKey, ItemState, MemberView,
    PresenceView, Preview, ReactionView, Recipient, ReplyView, Status, TimelineView,
};
use tidings_core::{ClientId, ConversationId, DeviceId, Time, UserId};
use tidings_protocol::entry::{Content, ConversationKind, Role, Settings};
use tidings_protocol::presence::Profile;
use tidings_protocol::{Code, Problem};

use super::*;
use crate::chat::clock::Clock;
use crate::chat::model::{Current, Model};
use crate::chat::screen::{Composing, Overlay};

const ME: UserId = UserId([1; 16]);
const ANA: UserId = UserId([2; 16]);
const BEN: UserId = UserId([3; 16]);
const HERE: ConversationId = ConversationId([9; 16]);
/// Saturday, 21 November 2026, 12:00 UTC.
const NOON: Time = Time(1_795_262_400_000);
const MINUTE: u64 = 60_000;

fn before(minutes: u64) -> Time {
    Time(NOON.0 - minutes * MINUTE)
}

fn message(seq: u64, author: UserId, at: Time, text: &str, state: ItemState) -> Item {
    Item {
        key: ItemKey::Entry(seq),
        seq: Some(seq),
        author,
        device: Some(DeviceId([0; 16])),
        at,
        body: ItemBody::Message(Content {
            text: text.to_owned(),
            ..Content::default()
        }),
        state,
        reply: None,
        edited: None,
        reactions: Vec::new(),
        expires: None,
    }
}

fn preview(author: UserId, text: &str) -> Preview {
    Preview {
        author,
        at: NOON,
        text: text.to_owned(),
        more: false,
        erased: false,
        state: ItemState::Plain,
    }
}

fn view(kind: ConversationKind, name: &str) -> ConversationView {
    ConversationView {
        conversation: HERE,
        kind,
        name: name.to_owned(),
        other: (kind == ConversationKind::Direct).then_some(ANA),
        last: Some(preview(ANA, "See you\nthere")),
        at: before(1),
        unread: 0,
        typing: Vec::new(),
        online: Some(true),
        gone: false,
    }
}

fn screen(kind: ConversationKind, items: Vec<Item>) -> Screen {
    let mut model = Model::new(ME, "me".to_owned(), "chat.example.org".to_owned());
    model.status = Status::Online;
    for (user, username) in [(ME, "me"), (ANA, "ana"), (BEN, "ben")] {
        let profile = Profile {
            user,
            username: username.to_owned(),
            display_name: String::new(),
            avatar: String::new(),
        };
        model.profiles.insert(user, profile);
    }
    let here = view(
        kind,
        if kind == ConversationKind::Direct {
            "ana"
        } else {
            "Our trip"
        },
    );
    let member = |user| MemberView {
        user,
        role: Role::Member,
        delivered: 0,
        shown: 0,
    };
    let details = ConversationDetails {
        view: here.clone(),
        settings: Settings::default(),
        role: Role::Owner,
        member_count: 3,
        members: [ME, ANA, BEN].map(member).to_vec(),
        head: 9,
        position: 9,
        read: 2,
    };
    let mut other = view(ConversationKind::Group, "Book club");
    other.conversation = ConversationId([8; 16]);
    other.unread = 1200;
    other.at = before(3 * 24 * 60);
    model.conversations = vec![here, other];
    model.current = Some(Current {
        conversation: HERE,
        to: Recipient::Conversation(HERE),
        details: Some(details),
        timeline: TimelineView {
            items,
            ..TimelineView::default()
        },
        presence: Some(PresenceView {
            online: true,
            last_seen: None,
        }),
    });
    Screen::new(
        model,
        Clock {
            now: NOON,
            zone: TimeZone::UTC,
        },
    )
}

fn check(screen: &Screen, width: u16, height: u16, expected: Expect) -> Shown {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut shown = Shown::default();
    terminal.draw(|frame| shown = draw(frame, screen)).unwrap();
    let picture = terminal.backend().to_string();
    let lines: Vec<&str> = picture
        .lines()
        .map(|line| line.trim_matches('"').trim_end())
        .collect();
    expected.assert_eq(&lines.join("\n"));
    shown
}

#[test]
fn ticks_days_and_what_is_new() {
    let mut items = vec![
        message(1, ME, before(24 * 60), "Are you coming?", ItemState::Read),
        message(2, ANA, before(30), "Yes!", ItemState::Plain),
        message(
            3,
            ANA,
            before(29),
            "On the train already, and it is full of people with skis.",
            ItemState::Plain,
        ),
        message(4, ME, before(3), "Good", ItemState::Delivered),
        message(5, ME, before(2), "See you there", ItemState::Sent),
        message(6, ME, before(1), "Hurry", ItemState::Pending),
        message(
            7,
            ME,
            before(1),
            "x",
            ItemState::Failed(Problem::new(Code::Blocked)),
        ),
    ];
    items[5].key = ItemKey::Outgoing(ClientId([1; 16]));
    let mut screen = screen(ConversationKind::Direct, items);
    screen.new_above = Some(2);
    let shown = check(
        &screen,
        80,
        24,
        expect![[r#"
             ● me@chat.example.org        │ ana  online
            ──────────────────────────────│─────────────────────────────────────────────────
            ▌● ana                  11:59 │
            ▌  See you there              │
             # Book club              Wed │
               ana: See you there   999+  │
                                          │ ────────────────── Yesterday ──────────────────
                                          │                     Are you coming?  12:00 ✓✓ ▐
                                          │ ──────────────────── Today ────────────────────
                                          │ ▌ Yes!  11:30
                                          │ ───────────────────── New ─────────────────────
                                          │ ▌ On the train already, and it is full of
                                          │ ▌ people with skis.  11:31
                                          │
                                          │                                Good  11:57 ✓✓ ▐
                                          │                        See you there  11:58 ✓ ▐
                                          │                                Hurry  11:59 ○ ▐
                                          │          x  11:59 !                           ▐
                                          │          not sent: One of the two blocked the ▐
                                          │          other. (/retry or /cancel)           ▐
                                          │
                                          │─────────────────────────────────────────────────
                                          │ › Write a message
             Enter send · Alt+↑↓ switch · ↑ choose · PgUp scroll · F1 help · Ctrl+Q quit"#]],
    );
    assert_eq!((shown.last_seq, shown.at_end), (Some(7), true));
}

#[test]
fn replies_reactions_edits_and_deletions_in_a_group() {
    let mut items = vec![
        message(1, ANA, before(9), "Shall we?", ItemState::Plain),
        message(2, BEN, before(8), "Let's", ItemState::Plain),
        message(3, ME, before(7), "gone", ItemState::Read),
    ];
    items[1].reply = Some(ReplyView {
        seq: 1,
        preview: Some(preview(ANA, "Shall we?")),
    });
    items[1].reactions = vec![ReactionView {
        emoji: "👍".into(),
        count: 2,
        mine: true,
    }];
    items[1].edited = Some(NOON);
    items[2].body = ItemBody::Deleted;
    let mut screen = screen(ConversationKind::Group, items);
    screen.selected = Some(ItemKey::Entry(2));
    screen.composing = Composing::Reply(2);
    screen.editor.insert("two\nlines");
    check(
        &screen,
        80,
        18,
        expect![[r#"
             ● me@chat.example.org        │ Our trip  3 members: You, ana, ben
            ──────────────────────────────│─────────────────────────────────────────────────
            ▌# Our trip             11:59 │
            ▌  ana: See you there         │ ──────────────────── Today ────────────────────
             # Book club              Wed │ ▌ ana
               ana: See you there   999+  │ ▌ Shall we?  11:51
                                          │
                                          │ █ ben
                                          │ █ ↪ ana: Shall we?
                                          │ █ Let's  edited 11:52
                                          │ █ 👍 2                                          " Hidden by multi-width symbols: [(35, " ")]
                                          │
                                          │                                deleted  11:53 ▐
                                          │
                                          │ ↪ ben: Let's
                                          │ › two
                                          │   lines
             r reply · e edit · d delete · + react · Enter read all · ↑ ↓ choose · Esc back"#]],
    );
}

#[test]
fn hostile_text_stays_in_its_place() {
    let text = format!(
        "\x1b[2J\x1b[31mred\x07 \u{202e}desrever {} 日本語",
        "z\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}"
    );
    let items = vec![
        message(1, ANA, before(9), &text, ItemState::Plain),
        message(2, ANA, before(8), &"W".repeat(100_000), ItemState::Plain),
    ];
    let mut screen = screen(ConversationKind::Group, items);
    screen.model.conversations[0].name =
        "\x1b]0;evil\x07\u{202e}name\nof two lines that is far too long".into();
    if let Some(profile) = screen.model.profiles.get_mut(&ANA) {
        profile.display_name = "\u{200b}\u{202e}".into();
    }
    check(
        &screen,
        74,
        40,
        expect![[r#"
             ● me@chat.example.org        │ Our trip  3 members: You, (no name), ben
            ──────────────────────────────│───────────────────────────────────────────
            ▌# ␛]0;evil␇name of tw… 11:59 │
            ▌  (no name): See you there   │
             # Book club              Wed │
               (no name): See you…  999+  │
                                          │
                                          │ ───────────────── Today ─────────────────
                                          │ ▌ (no name)
                                          │ ▌ ␛[2J␛[31mred␇ desrever ź̂̃̄ 日本語  11:51  " Hidden by multi-width symbols: [(60, " "), (62, " "), (64, " ")]
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW
                                          │ ▌ … (choose it and press Enter to read o…
                                          │ ▌ 11:52
                                          │
                                          │───────────────────────────────────────────
                                          │ › Write a message
             Enter send · Alt+↑↓ switch · ↑ choose · PgUp scroll · F1 help · Ctrl+Q …"#]],
    );
}

#[test]
fn without_a_connection() {
    let mut screen = screen(
        ConversationKind::Direct,
        vec![message(1, ME, before(1), "Hm", ItemState::Pending)],
    );
    screen.model.status = Status::Offline;
    screen.model.why_offline = Some("cannot reach chat.example.org: refused".into());
    screen.model.outbox_len = 1;
    check(
        &screen,
        100,
        10,
        expect![[r#"
             ○ me@chat.example.org        │ ana
            ──────────────────────────────│─────────────────────────────────────────────────────────────────────
            ▌● ana                  11:59 │ Offline · 1 message waits to be sent · cannot reach chat.example.o…
            ▌  See you there              │
             # Book club              Wed │ ────────────────────────────── Today ──────────────────────────────
               ana: See you there   999+  │                                                       Hm  11:59 ○ ▐
                                          │
                                          │─────────────────────────────────────────────────────────────────────
                                          │ › Write a message
             Enter send · Alt+↑↓ switch · ↑ choose · PgUp scroll · F1 help · Ctrl+Q quit"#]],
    );
}

#[test]
fn small_screens() {
    let items = vec![message(
        1,
        ANA,
        before(9),
        "A few words that need breaking",
        ItemState::Plain,
    )];
    let mut screen = screen(ConversationKind::Direct, items);
    check(
        &screen,
        30,
        10,
        expect![[r#"
             ana  online
            ──────────────────────────────

             ────────── Today ───────────
             ▌ A few words that need
             ▌ breaking  11:51

            ──────────────────────────────
             › Write a message
             Enter send · Alt+↑↓ switch …"#]],
    );
    screen.model.current = None;
    check(
        &screen,
        30,
        8,
        expect![[r#"
             ● me@chat.example.org
            ──────────────────────────────
             ● ana                  11:59
               See you there

            ──────────────────────────────
             › /dm NAME
             Enter send · Alt+↑↓ switch …"#]],
    );
}

#[test]
fn no_size_and_no_state_panics() {
    let long = "word ".repeat(300);
    let items: Vec<Item> = (1..40)
        .map(|seq| message(seq, ANA, before(40 - seq), &long, ItemState::Plain))
        .collect();
    let mut screen = screen(ConversationKind::Group, items);
    screen.editor.insert(&"typed 日本 ".repeat(40));
    let overlays = [
        None,
        Some(Overlay::Help { scroll: 99 }),
        Some(Overlay::Text {
            title: "t".into(),
            text: long,
            scroll: 3,
        }),
    ];
    for overlay in overlays {
        screen.overlay = overlay;
        for (width, height) in [
            (1, 1),
            (2, 3),
            (5, 2),
            (20, 4),
            (69, 3),
            (70, 5),
            (71, 12),
            (300, 100),
        ] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let mut shown = Shown::default();
            terminal.draw(|frame| shown = draw(frame, &screen)).unwrap();
            for lines in [-1000, -7, -1, 1, 7, 1000] {
                screen.anchor = scroll(&screen, &shown, lines);
            }
        }
    }
}

#[test]
fn scrolling_up_and_down_comes_back_to_the_end() {
    let items: Vec<Item> = (1..60)
        .map(|seq| {
            message(
                seq,
                ANA,
                before(600 - seq * 10),
                "one\ntwo",
                ItemState::Plain,
            )
        })
        .collect();
    let mut screen = screen(ConversationKind::Direct, items);
    let mut shown = Shown::default();
    let mut terminal = Terminal::new(TestBackend::new(80, 20)).unwrap();
    terminal.draw(|frame| shown = draw(frame, &screen)).unwrap();
    assert!(shown.at_end && !shown.near_start);
    screen.anchor = scroll(&screen, &shown, 1_000_000);
    terminal.draw(|frame| shown = draw(frame, &screen)).unwrap();
    assert_eq!(
        (shown.items.first(), shown.near_start, shown.at_end),
        (Some(&ItemKey::Entry(1)), true, false)
    );
    screen.anchor = reveal(&screen, &shown, ItemKey::Entry(30));
    terminal.draw(|frame| shown = draw(frame, &screen)).unwrap();
    assert_eq!(shown.last_seq, Some(30));
    screen.anchor = scroll(&screen, &shown, -1_000_000);
    assert_eq!(screen.anchor, None);
}
