//! The seam between catching up and being live, step by step; and losses that only the digest tells.

use std::time::Duration;

use tidings_core::id::direct_id;
use tidings_protocol::sync::{ConversationRequest, HistoryRequest, InboxRequest};
use tidings_protocol::{ClientFrame, ServerFrame};
use tidings_testing::proxy::Proxy;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::Device;
use tidings_testing::wire::log::Log;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Connection, Lost, Way};
use tidings_testing::world::World;

/// The moments at which a message may come, in order.
const STEPS: &[&str] = &[
    "before hello",
    "while welcome is held back",
    "between welcome and inbox",
    "while the inbox is held back",
    "between inbox and history",
    "while the first page is held back",
    "between two pages",
    "while the last page is held back",
    "after the last page",
];

pub(crate) async fn gap_between_catch_up_and_live(way: Way) {
    let world = World::start("gap_between_catch_up_and_live").await;
    let ada = world.person("ada", way).await;
    let proxy = Proxy::start(world.port()).await;
    // One message at one step each; then one at every step.
    for only in (0..STEPS.len()).map(Some).chain([None]) {
        let name = format!("ben-{}", only.unwrap_or(STEPS.len()));
        let ben = world.sign_up(&name).await;
        let talk = direct_id(ada.user, ben.user);
        for number in 0..5 {
            ada.sent(ada.say(Place::To(ben.user), &format!("early {number}")))
                .await;
        }
        let mut catching_up = CatchingUp {
            proxy: &proxy,
            ada: &ada,
            ben: ben.user,
            only,
            step: 0,
        };
        let log = catching_up.run(way, &ben.token, talk).await;
        assert_eq!(catching_up.step, STEPS.len());
        assert!(log.is_level(), "{only:?}: {log:?}");
        assert_eq!(log.said(), ada.memory().said(talk), "{only:?}");
    }
}

struct CatchingUp<'t> {
    proxy: &'t Proxy,
    ada: &'t Device,
    ben: tidings_core::UserId,
    only: Option<usize>,
    step: usize,
}

impl CatchingUp<'_> {
    /// The next step is reached: a message comes, if one is to come now.
    async fn reach(&mut self) {
        if self.only.is_none_or(|only| only == self.step) {
            let text = format!("late: {}", STEPS[self.step]);
            self.ada
                .sent(self.ada.say(Place::To(self.ben), &text))
                .await;
        }
        self.step += 1;
    }

    /// Asks, and lets a message come while the answer is held back.
    async fn ask_held(&mut self, connection: &mut Connection, frame: ClientFrame) -> ServerFrame {
        self.proxy.hold();
        let asked = connection.ask(frame);
        tokio::pin!(asked);
        let early = tokio::time::timeout(Duration::from_millis(30), &mut asked).await;
        assert!(early.is_err(), "the answer is held back");
        self.reach().await;
        self.proxy.release();
        asked.await.unwrap()
    }

    async fn run(&mut self, way: Way, token: &str, talk: tidings_core::ConversationId) -> Log {
        self.reach().await;
        self.proxy.hold();
        let opening = Connection::open_plain(way, self.proxy.port, token);
        tokio::pin!(opening);
        let early = tokio::time::timeout(Duration::from_millis(60), &mut opening).await;
        assert!(early.is_err(), "welcome is held back");
        self.reach().await;
        self.proxy.release();
        let mut connection = opening.await.unwrap();
        self.reach().await;
        let inbox = ClientFrame::Inbox(InboxRequest {
            id: 0,
            cursor: None,
            limit: None,
        });
        let inbox = self.ask_held(&mut connection, inbox).await;
        let ServerFrame::Inbox(inbox) = inbox else {
            panic!("{inbox:?}");
        };
        let mut log = Log::default();
        log.take_summary(&inbox.conversations[0]);
        self.reach().await;
        // Three pages at least: the first held back, one in between, the last held back.
        let page = self.ask_held(&mut connection, after(talk, &log, 2)).await;
        take(&mut log, &page);
        self.reach().await;
        let page = connection.ask(after(talk, &log, 2)).await.unwrap();
        take(&mut log, &page);
        let page = self.ask_held(&mut connection, after(talk, &log, 100)).await;
        take(&mut log, &page);
        self.reach().await;
        // Live from here on: everything that is missing must come by itself, as it was subscribed to before
        // the heads were read.
        self.ada.level().await;
        let head = self.ada.memory().log(talk).head;
        while log.level < head {
            let live = connection
                .event(|frame| match frame {
                    ServerFrame::Entries(entries) => Some(entries.clone()),
                    _ => None,
                })
                .await
                .unwrap();
            log.cover(live.from, live.to, &live.entries).unwrap();
        }
        log.stale = false;
        let summary = ConversationRequest {
            id: 0,
            conversation: talk,
        };
        let summary = connection.ask(ClientFrame::Conversation(summary)).await;
        let Ok(ServerFrame::Conversation(summary)) = summary else {
            panic!("{summary:?}");
        };
        assert_eq!(summary.conversation.head, head);
        log
    }
}

fn after(conversation: tidings_core::ConversationId, log: &Log, limit: u32) -> ClientFrame {
    ClientFrame::History(HistoryRequest {
        id: 0,
        conversation,
        after: Some(log.level),
        before: None,
        around: None,
        limit: Some(limit),
        generation: log.generation,
        hash: None,
    })
}

fn take(log: &mut Log, frame: &ServerFrame) {
    let ServerFrame::History(page) = frame else {
        panic!("{frame:?}");
    };
    log.take_page(page).unwrap();
}

pub(crate) async fn last_message_lost_on_the_wire(way: Way) {
    let world = World::start("last_message_lost_on_the_wire").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    ada.say(Place::To(ben.user), "arrives");
    ben.hears(talk, "arrives").await;
    all_level(world.port(), &[&ada, &ben]).await;

    let before = ben.memory().digest_differed;
    ben.lose_events(true);
    ada.sent(ada.say(Place::To(ben.user), "is lost")).await;
    // The message, and the mark of who said it, which would tell of it too.
    ben.wait("the loss", |memory| memory.lost_events >= 2).await;
    // Nothing more is said: only the heartbeat can tell.
    ben.lose_events(false);
    let seq = ben.hears(talk, "is lost").await;
    ada.sees_delivered(talk, ben.user, seq).await;
    assert!(ben.memory().digest_differed > before);
    assert_eq!(ben.memory().connections, 1, "without a new connection");

    // The same when the whole line dies silently.
    let proxy = Proxy::start(world.port()).await;
    ben.set_port(proxy.port);
    ben.set_online(false);
    tokio::time::sleep(Duration::from_millis(50)).await;
    ben.set_online(true);
    ben.level().await;
    proxy.swallow(true);
    ada.sent(ada.say(Place::To(ben.user), "is swallowed")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.cut();
    proxy.swallow(false);
    ben.hears(talk, "is swallowed").await;
    all_level(world.port(), &[&ada, &ben]).await;
}

pub(crate) async fn last_tick_lost_on_the_wire(way: Way) {
    let world = World::start("last_tick_lost_on_the_wire").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    ada.say(Place::To(ben.user), "hello");
    let seq = ben.hears(talk, "hello").await;
    all_level(world.port(), &[&ada, &ben]).await;

    let before = ada.memory().digest_differed;
    ada.lose_events(true);
    ben.read(talk, seq);
    ada.wait("the loss", |memory| memory.lost_events > 0).await;
    ada.lose_events(false);
    ada.sees_shown(talk, ben.user, seq).await;
    assert!(ada.memory().digest_differed > before);
    assert_eq!(ada.memory().connections, 1, "without a new connection");
    // And with a page that is asked for nothing is lost either.
    assert!(!matches!(ada.memory().lost, Some(Lost::Refused(_))));
    all_level(world.port(), &[&ada, &ben]).await;
}
