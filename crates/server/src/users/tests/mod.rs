mod devices;
mod mine;

use std::sync::atomic::{AtomicU64, Ordering};

use tidings_protocol::Encoding;
use tidings_protocol::account::{LogIn, LoggedIn, SignUp};
use tidings_store::memory::MemoryStore;

use super::record::Claim;
use super::*;
use crate::session::{QueueLimits, Session};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct World {
    clock: Arc<AtomicU64>,
    store: MemoryStore,
    hub: Arc<Hub>,
    users: Arc<Users>,
}

/// Hashes that cost nothing, and few of everything.
fn quick() -> UsersSettings {
    UsersSettings {
        password_memory_kib: 8,
        password_passes: 1,
        devices_per_user_max: 3,
        blocks_per_user_max: 2,
        private_keys_max: 3,
        private_value_bytes_max: 100,
        private_page_bytes_max: 130,
        ..UsersSettings::default()
    }
}

impl World {
    fn new() -> World {
        World::with(quick())
    }

    fn with(settings: UsersSettings) -> World {
        let store = MemoryStore::new();
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        World::over(store, clock, settings)
    }

    fn over(store: MemoryStore, clock: Arc<AtomicU64>, settings: UsersSettings) -> World {
        let limits = QueueLimits {
            frames_max: 100,
            bytes_max: 1 << 20,
        };
        let hub = Arc::new(Hub::new(limits, 4));
        let users = Users::new(
            Arc::new(store.clone()),
            hub.clone(),
            Clock::Manual(clock.clone()),
            settings,
            vec!["https://chat.example.org".to_owned()],
            Arc::default(),
        );
        World {
            clock,
            store,
            hub,
            users,
        }
    }

    /// The same store after a crash.
    fn restart(&self, settings: UsersSettings) -> World {
        self.store.crash();
        World::over(self.store.clone(), self.clock.clone(), settings)
    }

    fn pass(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::Relaxed);
    }

    async fn sign_up(&self, username: &str) -> Result<LoggedIn, Problem> {
        let sign_up = SignUp {
            username: username.to_owned(),
            password: "correct horse".to_owned(),
            display_name: String::new(),
            device_name: "first".to_owned(),
        };
        self.users.sign_up(sign_up, HOME).await
    }

    async fn log_in(&self, username: &str, password: &str) -> Result<LoggedIn, Problem> {
        let log_in = LogIn {
            username: username.to_owned(),
            password: password.to_owned(),
            device_name: String::new(),
            cookie: false,
        };
        self.users.log_in(log_in, HOME).await
    }

    fn open(&self, caller: Caller) -> Arc<Session> {
        self.hub.open(caller, Encoding::Json)
    }
}

fn caller(logged_in: &LoggedIn) -> Caller {
    Caller {
        user: logged_in.profile.user,
        device: logged_in.device,
    }
}

fn token(logged_in: &LoggedIn) -> &str {
    logged_in.token.as_deref().unwrap()
}

fn refused<T: std::fmt::Debug>(result: Result<T, Problem>) -> Code {
    result.unwrap_err().code
}

#[tokio::test]
async fn signing_up_logs_in() {
    let world = World::new();
    let ada = world.sign_up("Ada.L").await.unwrap();
    assert_eq!(ada.profile.username, "Ada.L");
    assert_eq!(ada.gateways, ["https://chat.example.org"]);
    assert_eq!(
        world.users.authenticate(token(&ada)).await,
        Ok(caller(&ada))
    );
    let again = world.log_in("aDA.l", "correct horse").await.unwrap();
    assert_eq!(again.profile, ada.profile);
    assert_ne!(again.device, ada.device);
    let (ids, names) = ([ada.profile.user], ["ADA.L".to_owned()]);
    let found = world.users.profiles(&ids, &names).await.unwrap();
    assert_eq!(found, std::slice::from_ref(&ada.profile), "once");
    assert_eq!(refused(world.sign_up("ada.l").await), Code::UsernameTaken);

    let restarted = world.restart(quick());
    assert_eq!(
        restarted.users.authenticate(token(&ada)).await,
        Ok(caller(&ada))
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let world = World::new();
    for username in ["ab", "ada lovelace", "ada@home", "ädä", "...", ""] {
        assert_eq!(
            refused(world.sign_up(username).await),
            Code::Invalid,
            "{username}"
        );
    }
    let long = world.sign_up(&"a".repeat(33)).await.unwrap_err();
    assert_eq!(long.limit.as_deref(), Some("username_chars_max"));
    let sign_up = |password: &str, display_name: &str| SignUp {
        username: "ada".to_owned(),
        password: password.to_owned(),
        display_name: display_name.to_owned(),
        device_name: String::new(),
    };
    for (sign_up, code) in [
        (sign_up("1234567", ""), Code::Invalid),
        (sign_up(&"x".repeat(1_001), ""), Code::TooMuch),
        (sign_up("12345678", &"x".repeat(101)), Code::TooMuch),
        (sign_up("12345678", "two\nlines"), Code::Invalid),
    ] {
        assert_eq!(refused(world.users.sign_up(sign_up, HOME).await), code);
    }
    for token in ["", "x", "AAAA", &"A".repeat(43), &"A".repeat(10_000)] {
        assert_eq!(
            refused(world.users.authenticate(token).await),
            Code::Unauthorized
        );
    }
    let closed = World::with(UsersSettings {
        sign_up_open: false,
        ..quick()
    });
    assert_eq!(refused(closed.sign_up("ada").await), Code::SignUpClosed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_gets_the_username() {
    let world = Arc::new(World::new());
    let tasks: Vec<_> = (0..16)
        .map(|index| {
            let world = world.clone();
            let username = if index % 2 == 0 { "ada" } else { "ADA" };
            tokio::spawn(async move { world.sign_up(username).await })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(logged_in) => winners.push(logged_in.profile.user),
            Err(problem) => assert_eq!(problem.code, Code::UsernameTaken),
        }
    }
    assert_eq!(winners.len(), 1);
    let logged_in = world.log_in("ada", "correct horse").await.unwrap();
    assert_eq!(logged_in.profile.user, winners[0]);
    let users = world
        .store
        .scan_documents(DocumentKind::User, Vec::new(), None, 100);
    assert_eq!(users.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_claim_left_by_a_crash_is_taken_over() {
    let world = World::new();
    let lost = UserId([7; 16]);
    let version = world.users.claim("ada", lost).await.unwrap();
    assert_eq!(refused(world.sign_up("ada").await), Code::UsernameTaken);
    assert_eq!(world.users.user_called("ada").await, Ok(None));
    assert_eq!(
        refused(world.log_in("ada", "correct horse").await),
        Code::WrongCredentials
    );
    world.pass(30_000);
    let ada = world.sign_up("ada").await.unwrap();
    assert_eq!(
        world.users.user_called("ada").await,
        Ok(Some(ada.profile.user))
    );

    // The slow one that comes to its confirmation now finds that it is too late.
    let confirmation = Claim {
        user: lost,
        at: Time(0),
        confirmed: true,
    };
    let put = PutDocument {
        kind: DocumentKind::Username,
        key: b"ada".to_vec(),
        expected: Some(version),
        value: Some(record::encode_claim(&confirmation)),
    };
    let late = world.store.put_document(put).await;
    assert!(matches!(late, Err(PutError::Conflict { .. })));
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_look_alike() {
    let world = World::new();
    world.sign_up("ada").await.unwrap();
    let hashes = || {
        let text = world.users.metrics.encode();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("tidings_password_hash_seconds_count "));
        count.unwrap().parse::<u32>().unwrap()
    };
    world.users.passwords.warm_up().await.unwrap();
    let before = hashes();
    let wrong = world.log_in("ada", "wrong horse").await.unwrap_err();
    let between = hashes();
    let unknown = world.log_in("bob", "wrong horse").await.unwrap_err();
    assert_eq!(wrong, unknown);
    assert_eq!(wrong.code, Code::WrongCredentials);
    assert_eq!(
        (between - before, hashes() - between),
        (1, 1),
        "the same work"
    );
    let long = "x".repeat(2_000);
    assert_eq!(world.log_in("ada", &long).await.unwrap_err(), wrong);
    assert_eq!(world.log_in("bob", &long).await.unwrap_err(), wrong);
}

#[tokio::test]
async fn guessing_slows_down() {
    let world = World::with(UsersSettings {
        username_failures_burst_max: 3,
        address_failures_burst_max: 7,
        ..quick()
    });
    world.sign_up("ada").await.unwrap();
    for username in ["ada", "nobody"] {
        for _ in 0..3 {
            assert_eq!(
                refused(world.log_in(username, "wrong").await),
                Code::WrongCredentials
            );
        }
        let slowed = world.log_in(username, "wrong").await.unwrap_err();
        assert_eq!(
            slowed,
            Problem::rate_limited("username_failures_burst_max", 10_000)
        );
    }
    assert_eq!(
        refused(world.log_in("ada", "correct horse").await),
        Code::RateLimited
    );
    assert_eq!(
        refused(world.log_in("bob", "wrong").await),
        Code::WrongCredentials
    );
    let slowed = world.log_in("eve", "wrong").await.unwrap_err();
    assert_eq!(slowed.limit.as_deref(), Some("address_failures_burst_max"));

    world.pass(10_000);
    assert!(world.log_in("ada", "correct horse").await.is_ok());
    for _ in 0..3 {
        assert_eq!(
            refused(world.log_in("ada", "wrong").await),
            Code::WrongCredentials
        );
    }
}
