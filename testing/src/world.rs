//! A server and people on it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use serde_json::json;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::account::{LogIn, LoggedIn, SignUp};
use tidings_protocol::entry::{Retention, Settings, SettingsChange};
use tidings_protocol::send::{
    Action, CreateAction, InviteAction, MemberAction, NoDetail, ReactAction, TargetAction,
};
use tidings_protocol::sync::Conversation;

use crate::cassandra::Cassandra;
use crate::cluster::Keyspace;
use crate::http::Http;
use crate::server::Server;
use crate::wire::device::{Device, Login};
use crate::wire::memory::{Place, Settled};
use crate::wire::{Connection, Way};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse";

/// A server, and how to come by people and devices.
#[derive(Debug)]
pub struct World {
    /// The server.
    pub server: Server,
    /// By this it can be repeated.
    pub seed: u64,
    /// Where it keeps everything, if that is not its data directory. After the server: it goes last.
    pub keyspace: Option<Keyspace>,
}

impl World {
    /// A server with the settings for tests.
    pub async fn start(test: &str) -> World {
        World::start_with(test, &[]).await
    }

    /// A server with these settings besides.
    pub async fn start_with(test: &str, settings: &[(&str, &str)]) -> World {
        let seed = crate::chance::seed(test);
        if std::env::var("TIDINGS_TEST_STORE").is_ok_and(|kind| kind == "cassandra") {
            return World::start_on_cassandra(seed, settings).await;
        }
        World {
            seed,
            server: Server::start_with(settings).await,
            keyspace: None,
        }
    }

    /// Most tests of one server hold on any store: `TIDINGS_TEST_STORE=cassandra` shows it. Those that look into
    /// the data directory do not.
    async fn start_on_cassandra(seed: u64, settings: &[(&str, &str)]) -> World {
        let points = tokio::task::spawn_blocking(|| Cassandra::shared().contact_points());
        let keyspace = Keyspace::new(points.await.unwrap());
        let own = keyspace.settings(1);
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<(&str, &str)> = own.chain(settings.iter().copied()).collect();
        let mut server = Server::prepare(&all);
        server.migrate().await;
        server.start_again().await;
        World {
            server,
            seed,
            keyspace: Some(keyspace),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Signs somebody up. That is their first device.
    pub async fn sign_up(&self, name: &str) -> Login {
        let sign_up = SignUp {
            username: name.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: String::new(),
            device_name: "first".to_owned(),
        };
        let mut http = Http::new(self.port());
        login_of(http.json("POST", "/v1/accounts", &sign_up).await.unwrap())
    }

    /// Logs somebody in on one more device.
    pub async fn log_in(&self, name: &str) -> Login {
        let log_in = LogIn {
            username: name.to_owned(),
            password: PASSWORD.to_owned(),
            device_name: "another".to_owned(),
            cookie: false,
        };
        let mut http = Http::new(self.port());
        login_of(http.json("POST", "/v1/login", &log_in).await.unwrap())
    }

    /// A device, connected by itself.
    #[must_use]
    pub fn device(&self, name: &str, way: Way, login: &Login) -> Device {
        let seed = self.seed ^ u64::from_le_bytes(login.device.0[8..].try_into().unwrap());
        Device::start(name, way, self.port(), login, seed)
    }

    /// Somebody new with a connected device.
    pub async fn person(&self, name: &str, way: Way) -> Device {
        self.device(name, way, &self.sign_up(name).await)
    }

    /// One more device of somebody, connected.
    pub async fn second_device(&self, name: &str, way: Way) -> Device {
        let login = self.log_in(name).await;
        self.device(&format!("{name}'s second"), way, &login)
    }

    /// HTTP in somebody's name.
    #[must_use]
    pub fn http(&self, token: &str) -> Http {
        Http::with_token(self.port(), token)
    }

    /// A bare connection.
    pub async fn connect(&self, way: Way, token: &str) -> Connection {
        Connection::open_plain(way, self.port(), token)
            .await
            .unwrap()
    }

    /// A conversation as the server has it for somebody.
    pub async fn conversation(&self, token: &str, id: ConversationId) -> Conversation {
        let path = format!("/v1/conversations/{id}");
        self.http(token).get(&path).await.unwrap()
    }

    /// Logs a device out, from another of the same user.
    pub async fn revoke(&self, token: &str, device: tidings_core::DeviceId) {
        let path = format!("/v1/devices/{device}");
        let mut http = self.http(token);
        http.done("DELETE", &path, &json!({})).await.unwrap();
    }
}

fn login_of(logged_in: LoggedIn) -> Login {
    Login {
        user: logged_in.profile.user,
        device: logged_in.device,
        token: logged_in.token.unwrap(),
    }
}

/// Begins a group and waits until it is there.
pub async fn group(owner: &Device, users: &[UserId], settings: Settings) -> ConversationId {
    let action = Action::Create(CreateAction {
        users: users.to_vec(),
        settings,
        kind: None,
    });
    let client_id = owner.send(Place::New, action);
    owner.sent(client_id).await;
    match owner.memory().settled.get(&client_id) {
        Some(Settled::Sent { conversation, .. }) => *conversation,
        other => panic!("{other:?}"),
    }
}

/// Settings with a name.
#[must_use]
pub fn named(name: &str) -> Settings {
    Settings {
        name: name.to_owned(),
        ..Settings::default()
    }
}

/// Settings of a group that keeps messages until they are delivered.
#[must_use]
pub fn until_delivered() -> Settings {
    Settings {
        retention: Retention::UntilDelivered,
        ..named("until delivered")
    }
}

/// The action of bringing people in.
#[must_use]
pub fn invite(users: &[UserId]) -> Action {
    Action::Invite(InviteAction {
        users: users.to_vec(),
    })
}

/// The action of making somebody go.
#[must_use]
pub fn remove(user: UserId) -> Action {
    Action::Remove(MemberAction { user })
}

/// The action of going.
#[must_use]
pub fn leave() -> Action {
    Action::Leave(NoDetail {})
}

/// The action of deleting for everyone.
#[must_use]
pub fn delete(target: u64) -> Action {
    Action::Delete(TargetAction { target })
}

/// The action of putting a reaction on.
#[must_use]
pub fn react(target: u64, emoji: &str) -> Action {
    Action::React(ReactAction {
        target,
        emoji: emoji.to_owned(),
        on: true,
    })
}

/// The action of changing settings.
#[must_use]
pub fn configure(change: SettingsChange) -> Action {
    Action::Configure(change)
}

/// One test for each way to the server: `name::json`, `name::cbor`, `name::short`,
/// `name::long_polling`.
#[macro_export]
macro_rules! each_way {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        mod $name {
            use tidings_testing::wire::Way;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn json() {
                super::way::$name(Way::Json).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cbor() {
                super::way::$name(Way::Cbor).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn short() {
                super::way::$name(Way::Short).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn long_polling() {
                super::way::$name(Way::Polling).await;
            }
        }
    )*};
}
