use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidings_core::Time;
use tidings_protocol::account::{Privacy, ProfileChange, SignUp};
use tidings_protocol::{Code, Encoding};
use tidings_store::memory::MemoryStore;

use super::*;
use crate::config::UsersSettings;
use crate::session::{Caller, Drained, QueueLimits};
use crate::users::Neighbours;

const HEARTBEAT_MS: u64 = 30_000;

struct World {
    clock: Arc<AtomicU64>,
    hub: Arc<Hub>,
    users: Arc<Users>,
    presence: Arc<Presence>,
}

/// The pair that is set are contacts.
struct Pair(Mutex<Option<(UserId, UserId)>>);

impl Neighbours for Pair {
    fn device_added(&self, _: Caller) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async { Ok(()) })
    }

    fn device_removed(&self, _: Caller) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn share_conversation(
        &self,
        one: UserId,
        other: UserId,
    ) -> BoxFuture<'_, Result<bool, Problem>> {
        let pair = *self.0.lock().unwrap();
        Box::pin(async move { Ok(pair == Some((one, other)) || pair == Some((other, one))) })
    }

    fn visibility_changed(&self, _: UserId) {}
}

impl World {
    fn new() -> World {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let settings = UsersSettings {
            password_memory_kib: 8,
            password_passes: 1,
            ..UsersSettings::default()
        };
        let limits = QueueLimits {
            frames_max: 1_000,
            bytes_max: 1 << 20,
        };
        let hub = Arc::new(Hub::new(limits, 4));
        let manual = Clock::Manual(clock.clone());
        let users = Users::new(
            Arc::new(MemoryStore::new()),
            hub.clone(),
            manual.clone(),
            settings,
            Vec::new(),
            Arc::default(),
        );
        let settings = PresenceSettings {
            watched_users_max: 3,
            ..PresenceSettings::default()
        };
        let presence = Presence::new(hub.clone(), users.clone(), manual, settings);
        World {
            clock,
            hub,
            users,
            presence,
        }
    }

    async fn user(&self, name: &str) -> Caller {
        let sign_up = SignUp {
            username: name.to_owned(),
            password: "password".to_owned(),
            display_name: String::new(),
            device_name: String::new(),
        };
        let logged_in = self
            .users
            .sign_up(sign_up, [127, 0, 0, 1].into())
            .await
            .unwrap();
        Caller {
            user: logged_in.profile.user,
            device: logged_in.device,
        }
    }

    fn connect(&self, caller: Caller) -> Arc<Session> {
        let session = self.hub.open(caller, Encoding::Json);
        self.presence.session_opened(&session, HEARTBEAT_MS);
        session
    }

    fn disconnect(&self, session: &Session) {
        self.hub.close(session);
        self.presence.session_closed(session);
    }

    async fn pass(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::Relaxed);
        self.presence.tell_changes().await;
    }

    fn now(&self) -> Time {
        Time(self.clock.load(Ordering::Relaxed))
    }

    async fn set_audience(&self, caller: Caller, last_seen: Audience) {
        let change = ProfileChange {
            privacy: Some(Privacy {
                last_seen,
                read_receipts: true,
            }),
            ..ProfileChange::default()
        };
        self.users.change_profile(caller, change).await.unwrap();
        self.presence.visibility_changed(caller.user);
        self.presence.tell_changes().await;
    }
}

/// What a session was told: who, online, last seen.
fn told(session: &Session) -> Vec<(UserId, bool, Option<Time>)> {
    let mut frames: VecDeque<Bytes> = VecDeque::new();
    while session.drain(&mut frames, usize::MAX) == Drained::Frames {}
    let presence = |frame: &Bytes| match serde_json::from_slice(frame).unwrap() {
        ServerFrame::Presence(presence) => (presence.user, presence.online, presence.last_seen),
        other => panic!("{other:?}"),
    };
    frames.iter().map(presence).collect()
}

#[tokio::test]
async fn online_until_thirty_seconds_after_a_missed_heartbeat() {
    let world = World::new();
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let screen = world.connect(bob);
    world.presence.watch(&screen, vec![ada.user]).await.unwrap();
    let signed_up = world.now();
    assert_eq!(told(&screen), [(ada.user, false, Some(signed_up))]);

    let session = world.connect(ada);
    world.pass(0).await;
    assert_eq!(told(&screen), [(ada.user, true, None)]);

    for _ in 0..5 {
        world.pass(HEARTBEAT_MS).await;
        world.presence.heartbeat(&session);
        world.presence.heartbeat(&screen);
    }
    let last_beat = world.now();
    world.pass(HEARTBEAT_MS + 29_999).await;
    assert_eq!(told(&screen), [], "nothing has changed");
    world.pass(1).await;
    assert_eq!(told(&screen), [(ada.user, false, Some(last_beat))]);

    world.presence.heartbeat(&session);
    world.pass(0).await;
    assert_eq!(told(&screen), [(ada.user, true, None)], "late, but there");
}

#[tokio::test]
async fn a_flicker_does_not_show() {
    let world = World::new();
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let screen = world.connect(bob);
    let first = world.connect(ada);
    world.pass(0).await;
    world.presence.watch(&screen, vec![ada.user]).await.unwrap();
    told(&screen);

    for _ in 0..10 {
        let next = world.connect(ada);
        world.disconnect(&next);
        world.pass(5_000).await;
    }
    world.disconnect(&first);
    world.pass(9_000).await;
    let second = world.connect(ada);
    world.pass(5_000).await;
    assert_eq!(told(&screen), [], "back within the grace");

    world.disconnect(&second);
    let left = world.now();
    world.pass(9_999).await;
    assert_eq!(told(&screen), []);
    world.pass(1).await;
    assert_eq!(told(&screen), [(ada.user, false, Some(left))]);
}

#[tokio::test]
async fn closing_a_dead_session_does_not_prolong_it() {
    let world = World::new();
    let ada = world.user("ada").await;
    let session = world.connect(ada);
    world.pass(HEARTBEAT_MS + 29_000).await;
    world.disconnect(&session);
    world.pass(1_000).await;
    let known = world.presence.of(ada.user, &[ada.user]).await.unwrap();
    assert!(!known[0].online);
}

#[tokio::test]
async fn only_those_who_watch_are_told_and_only_while_they_do() {
    let world = World::new();
    let (ada, bob, eve) = (
        world.user("ada").await,
        world.user("bob").await,
        world.user("eve").await,
    );
    let (screen, other) = (world.connect(bob), world.connect(eve));
    world.pass(0).await;
    world
        .presence
        .watch(&screen, vec![ada.user, ada.user])
        .await
        .unwrap();
    assert_eq!(told(&screen).len(), 1, "each once");
    world.presence.watch(&screen, vec![eve.user]).await.unwrap();
    assert_eq!(told(&screen), [(eve.user, true, None)]);
    let session = world.connect(ada);
    world.pass(0).await;
    assert_eq!(told(&screen), [], "no longer watched");
    assert_eq!(told(&other), []);

    let too_many = vec![ada.user, bob.user, eve.user, UserId([9; 16])];
    let problem = world.presence.watch(&screen, too_many).await.unwrap_err();
    assert_eq!(problem.code, Code::TooMuch);
    assert_eq!(problem.limit.as_deref(), Some("watched_users_max"));

    world.disconnect(&screen);
    world.presence.watch(&screen, vec![ada.user]).await.unwrap();
    world.disconnect(&session);
    world.pass(100_000).await;
    assert_eq!(told(&screen), []);
    assert!(world.presence.lock().watchers.is_empty(), "nothing is left");
}

#[tokio::test]
async fn privacy_works_both_ways() {
    let world = World::new();
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let pair = Arc::new(Pair(Mutex::new(None)));
    world.users.set_neighbours(pair.clone());
    let screens = [world.connect(ada), world.connect(bob)];
    world
        .presence
        .watch(&screens[0], vec![bob.user])
        .await
        .unwrap();
    world
        .presence
        .watch(&screens[1], vec![ada.user])
        .await
        .unwrap();
    let online = async || {
        [
            world.presence.of(ada.user, &[bob.user]).await.unwrap()[0].online,
            world.presence.of(bob.user, &[ada.user]).await.unwrap()[0].online,
        ]
    };
    assert_eq!(online().await, [true, true]);
    screens.iter().for_each(|screen| drop(told(screen)));

    world.set_audience(ada, Audience::Nobody).await;
    assert_eq!(online().await, [false, false]);
    for (screen, other) in screens.iter().zip([bob, ada]) {
        assert_eq!(told(screen).last(), Some(&(other.user, false, None)));
    }
    let myself = world.presence.of(ada.user, &[ada.user]).await.unwrap();
    assert!(myself[0].online);

    world.set_audience(ada, Audience::Contacts).await;
    assert_eq!(online().await, [false, false]);
    *pair.0.lock().unwrap() = Some((bob.user, ada.user));
    assert_eq!(online().await, [true, true]);

    world.set_audience(ada, Audience::Everyone).await;
    world.users.block(bob, ada.user).await.unwrap();
    assert_eq!(online().await, [false, false]);
    world.users.unblock(bob, ada.user).await.unwrap();
    assert_eq!(online().await, [true, true]);

    let stranger = world
        .presence
        .of(ada.user, &[UserId([9; 16])])
        .await
        .unwrap();
    assert_eq!((stranger[0].online, stranger[0].last_seen), (false, None));
}
