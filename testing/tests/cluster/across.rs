//! What happens at one server and is seen at another: presence, typing, marks of one's other devices, revocation.

use std::time::{Duration, Instant};

use serde_json::json;
use tidings_core::id::direct_id;
use tidings_protocol::account::LoggedIn;
use tidings_protocol::presence::{Presence, Typing, Watch};
use tidings_protocol::{ClientFrame, Code, ServerFrame};
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Connection, Lost, Way};
use tidings_testing::world::PASSWORD;

const SHORT: [(&str, &str); 3] = [
    ("presence.offline_after_ms", "1000"),
    ("presence.drop_grace_ms", "300"),
    ("presence.look_ms", "50"),
];

async fn two(test: &str, settings: &[(&str, &str)]) -> Cluster {
    Cluster::start(test, 2, &Ground::shared(), settings).await
}

/// Without NATS: what is seen is found in the store alone.
async fn two_deaf(test: &str, settings: &[(&str, &str)]) -> Cluster {
    let ground = Ground {
        nats: 0,
        ..Ground::shared()
    };
    Cluster::start(test, 2, &ground, settings).await
}

async fn told(connection: &mut Connection, is_so: impl Fn(&Presence) -> bool) -> Presence {
    connection
        .event(|frame| match frame {
            ServerFrame::Presence(presence) if is_so(presence) => Some(*presence),
            _ => None,
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn online_and_typing_are_seen_at_another_server() {
    let cluster = two("online_and_typing_are_seen_at_another_server", &SHORT).await;
    let (here, there) = (cluster.at(0), cluster.at(1));
    let ada = here.sign_up("ada").await;
    let ben = there.sign_up("ben").await;
    let talk = direct_id(ada.user, ben.user);
    let first = there.device("ben", Way::Cbor, &ben);
    first.sent(first.say(Place::To(ada.user), "hello")).await;
    first.set_online(false);

    let mut watching = here.connect(Way::Json, &ada.token).await;
    let watch = Watch {
        id: None,
        users: vec![ben.user],
        conversation: Some(talk),
    };
    watching.ask(ClientFrame::Watch(watch)).await.unwrap();
    told(&mut watching, |presence| !presence.online).await;
    let mut at_other = there.connect(Way::Cbor, &ben.token).await;
    told(&mut watching, |presence| presence.online).await;
    let typing = Typing {
        conversation: talk,
        on: true,
    };
    at_other.post(ClientFrame::Typing(typing)).await.unwrap();
    let typed = watching
        .event(|frame| match frame {
            ServerFrame::Typing(typing) => Some(*typing),
            _ => None,
        })
        .await
        .unwrap();
    assert_eq!(
        (typed.conversation, typed.user, typed.on),
        (talk, ben.user, true)
    );
    drop(at_other);
    let gone = told(&mut watching, |presence| !presence.online).await;
    assert!(watching.welcome.at.millis_since(gone.last_seen.unwrap()) < 60_000);
}

/// It is told once; whoever missed it sees by the heartbeat that it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_online_while_the_wire_was_down_is_seen_once_it_is_back() {
    let test = "who_came_online_while_the_wire_was_down_is_seen_once_it_is_back";
    // Nobody here answers while NATS starts.
    let mut cluster = two(test, &SHORT[1..]).await;
    let ada = cluster.at(0).sign_up("ada").await;
    let ben = cluster.at(1).sign_up("ben").await;
    let first = cluster.at(1).device("ben", Way::Cbor, &ben);
    first.sent(first.say(Place::To(ada.user), "hello")).await;
    first.set_online(false);
    let mut watching = cluster.at(0).connect(Way::Json, &ada.token).await;
    let watch = Watch {
        id: None,
        users: vec![ben.user],
        conversation: None,
    };
    watching.ask(ClientFrame::Watch(watch)).await.unwrap();
    told(&mut watching, |presence| !presence.online).await;

    let nats = cluster.nats.as_mut().unwrap();
    nats.kill(0);
    // Shorter than the silence after which a server is taken for gone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _at_other = cluster.at(1).connect(Way::Cbor, &ben.token).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::task::block_in_place(|| cluster.nats.as_mut().unwrap().restart(0));
    told(&mut watching, |presence| presence.online).await;
}

async fn revoked_at_another_server(cluster: &Cluster) {
    let (here, there) = (cluster.at(0), cluster.at(1));
    let ada = here.sign_up("ada").await;
    for way in Way::ALL {
        let lost = here.log_in("ada").await;
        let mut connection = there.connect(way, &lost.token).await;
        let began = Instant::now();
        here.revoke(&ada.token, lost.device).await;
        let end = connection.ended().await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{way:?}: {took:?}");
        if let Lost::Bye(code) = end {
            assert_eq!(code, Code::Revoked);
        }
        match Connection::open_plain(way, there.port(), &lost.token).await {
            Err(Lost::Refused(problem)) => assert_eq!(problem.code, Code::Unauthorized),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_revoked_is_cut_off_at_another_server() {
    let cluster = two("a_device_that_is_revoked_is_cut_off_at_another_server", &[]).await;
    revoked_at_another_server(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_revoked_is_cut_off_without_nats_too() {
    let cluster = two_deaf("a_device_that_is_revoked_is_cut_off_without_nats_too", &[]).await;
    revoked_at_another_server(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_password_ends_what_the_old_one_let_in_elsewhere() {
    let cluster = two(
        "a_changed_password_ends_what_the_old_one_let_in_elsewhere",
        &[],
    )
    .await;
    let (here, there) = (cluster.at(0), cluster.at(1));
    let ada = here.sign_up("ada").await;
    let other = there.log_in("ada").await;
    let mut connection = there.connect(Way::Cbor, &other.token).await;
    let change = json!({"old_password": PASSWORD, "new_password": "another horse entirely"});
    let mut http = here.http(&ada.token);
    http.done("POST", "/v1/me/password", &change).await.unwrap();
    connection.ended().await;
    let _still_in = there.connect(Way::Cbor, &ada.token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_on_one_device_clears_the_badge_at_another_server() {
    let cluster = two(
        "reading_on_one_device_clears_the_badge_at_another_server",
        &[],
    )
    .await;
    let ada = cluster.at(0).person("ada", Way::Cbor).await;
    let ben = cluster.at(0).person("ben", Way::Cbor).await;
    let login = cluster.at(1).log_in("ben").await;
    let second = cluster.at(1).device("ben's second", Way::Cbor, &login);
    let talk = direct_id(ada.user, ben.user);
    let seq = ada.sent(ada.say(Place::To(ben.user), "hello")).await;
    ben.hears(talk, "hello").await;
    second.hears(talk, "hello").await;
    ben.read(talk, seq);
    second
        .wait("the badge to go", |memory| memory.log(talk).read.seq >= seq)
        .await;
    all_level(cluster.at(1).port(), &[&ada, &ben, &second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_everything_is_found_in_the_store() {
    let cluster = two_deaf("without_nats_everything_is_found_in_the_store", &[]).await;
    let ada = cluster.at(0).person("ada", Way::Cbor).await;
    let ben = cluster.at(1).person("ben", Way::Cbor).await;
    let talk = direct_id(ada.user, ben.user);
    for round in 0..3 {
        let text = format!("found {round}");
        let seq = ada.sent(ada.say(Place::To(ben.user), &text)).await;
        assert_eq!(ben.hears(talk, &text).await, seq);
        ada.sees_delivered(talk, ben.user, seq).await;
        ben.read(talk, seq);
        ada.sees_shown(talk, ben.user, seq).await;
    }
    let mut http = cluster.at(0).http("");
    let health = http.try_request("GET", "/readyz", &[], b"").await.unwrap();
    assert_eq!(health.status, 200, "it serves");
    let report = String::from_utf8(health.body).unwrap();
    assert!(report.contains("nats"), "and says what it lacks: {report}");
    all_level(cluster.at(0).port(), &[&ada, &ben]).await;
}

/// Two servers that each take every conversation: nothing but speed suffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_both_own_everything_only_lose_time() {
    let settings = [("cluster.affinity", "\"everybody\"")];
    let cluster = two(
        "two_servers_that_both_own_everything_only_lose_time",
        &settings,
    )
    .await;
    let ada = cluster.at(0).person("ada", Way::Cbor).await;
    let ben = cluster.at(1).person("ben", Way::Cbor).await;
    let talk = direct_id(ada.user, ben.user);
    ada.sent(ada.say(Place::To(ben.user), "hello")).await;
    ben.hears(talk, "hello").await;
    const EACH: usize = 60;
    let mut sent = Vec::new();
    for number in 0..EACH {
        sent.push((&ada, ada.say(Place::In(talk), &format!("ada {number}"))));
        sent.push((&ben, ben.say(Place::In(talk), &format!("ben {number}"))));
    }
    for (device, message) in sent {
        device.sent(message).await;
    }
    all_level(cluster.at(0).port(), &[&ada, &ben]).await;
    let said = ada.memory().said(talk);
    assert_eq!(said, ben.memory().said(talk));
    for side in ["ada", "ben"] {
        let of_side: Vec<&String> = said.iter().filter(|text| text.starts_with(side)).collect();
        let expected: Vec<String> = (0..EACH).map(|number| format!("{side} {number}")).collect();
        assert!(of_side.into_iter().eq(&expected), "{side}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logging_in_names_the_servers_and_draining_hands_the_sessions_over() {
    let mut cluster = two(
        "logging_in_names_the_servers_and_draining_hands_the_sessions_over",
        &[("server.drain_ms_max", "3000")],
    )
    .await;
    // Each says where it is; a restart reads the settings anew.
    let nats = cluster.nats.as_ref().unwrap().urls().join(",");
    for number in 0..2 {
        let mut own = cluster.keyspace.settings(1);
        own.push(("nats.urls", format!("{nats:?}")));
        own.push((
            "cluster.address",
            format!("\"http://127.0.0.1:{}\"", cluster.at(number).port()),
        ));
        own.push(("server.drain_ms_max", "3000".to_owned()));
        let own: Vec<(&str, &str)> = own
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        cluster.worlds[number].server.stop().await;
        cluster.worlds[number].server.configure(&own);
        cluster.worlds[number].server.start_again().await;
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let sign_up = json!({"username": "ada", "password": PASSWORD, "device_name": "first"});
    let mut http = cluster.at(0).http("");
    let ada: LoggedIn = http.json("POST", "/v1/accounts", &sign_up).await.unwrap();
    let address = |number: usize| format!("http://127.0.0.1:{}", cluster.at(number).port());
    assert_eq!(
        ada.gateways,
        [address(0), address(1)],
        "the one that was asked first"
    );

    let token = ada.token.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(cluster.at(0).connect(Way::Cbor, &token).await);
    }
    cluster.at(0).server.terminate();
    let began = Instant::now();
    let mut ends = Vec::new();
    for session in &mut sessions {
        match session.ended().await {
            Lost::Bye(code) => assert_eq!(code, Code::Draining),
            other => panic!("{other:?}"),
        }
        ends.push(began.elapsed());
    }
    assert!(
        *ends.last().unwrap() > Duration::from_millis(250),
        "not all at once: {ends:?}"
    );
    assert!(cluster.worlds[0].server.ended().await.success());
    let mut other = cluster.at(1).http("");
    let log_in = json!({"username": "ada", "password": PASSWORD, "device_name": "second"});
    let again: LoggedIn = other.json("POST", "/v1/login", &log_in).await.unwrap();
    assert_eq!(
        again.gateways,
        [format!("http://127.0.0.1:{}", cluster.at(1).port())]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_off_steps_aside_and_says_why() {
    let mut cluster = two("a_server_whose_clock_is_off_steps_aside_and_says_why", &[]).await;
    cluster.worlds[0].server.start_with_clock().await;
    let (wrong, right) = (cluster.at(0), cluster.at(1));
    let ada = wrong.person("ada", Way::Cbor).await;
    let ben = right.person("ben", Way::Cbor).await;
    let talk = direct_id(ada.user, ben.user);
    ada.sent(ada.say(Place::To(ben.user), "in time")).await;

    wrong.server.advance_seconds(60);
    let mut http = wrong.http("");
    let until = Instant::now() + Duration::from_secs(10);
    let report = loop {
        let ready = http.try_request("GET", "/readyz", &[], b"").await.unwrap();
        if ready.status == 503 {
            break String::from_utf8(ready.body).unwrap();
        }
        assert!(Instant::now() < until, "it goes on as if nothing were");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(
        report.contains("clock is 60 s ahead") || report.contains("clock is 59 s ahead"),
        "{report}"
    );
    // Its people are sent away, and a load balancer brings them to the other.
    ada.set_port(right.port());
    let seq = ada.sent(ada.say(Place::In(talk), "from elsewhere")).await;
    assert_eq!(ben.hears(talk, "from elsewhere").await, seq);
    let page = ben
        .memory()
        .log(talk)
        .entries
        .get(&seq)
        .map(|entry| entry.at)
        .unwrap();
    assert!(
        ben.memory()
            .log(talk)
            .entries
            .values()
            .all(|entry| entry.at <= page)
    );

    wrong.server.advance_seconds(0);
    let until = Instant::now() + Duration::from_secs(10);
    while http
        .try_request("GET", "/readyz", &[], b"")
        .await
        .unwrap()
        .status
        != 200
    {
        assert!(Instant::now() < until, "it does not come back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ada.set_port(wrong.port());
    ada.set_online(false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    ada.set_online(true);
    ada.sent(ada.say(Place::In(talk), "and back")).await;
    all_level(right.port(), &[&ada, &ben]).await;
}
