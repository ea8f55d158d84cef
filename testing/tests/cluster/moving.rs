//! A deployment grows up: from one machine into a cluster and back, while people talk. Their devices notice nothing
//! but that the server was away for a moment.

use std::time::{Duration, Instant};

use tidings_core::id::direct_id;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::entry::Settings;
use tidings_protocol::send::{Action, EditAction};
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::server::Server;
use tidings_testing::talkers::Talkers;
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::{Device, content};
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, delete, group, named, react, until_delivered};

const PAIRS: usize = 3;

/// People with something of everything behind them.
struct Village {
    ada: Device,
    second: Device,
    ben: Device,
    /// Away: some messages wait for her.
    cleo: Device,
    lasting: ConversationId,
    fleeting: ConversationId,
    vanishing: ConversationId,
    /// In the group that keeps until delivered.
    owed: Vec<String>,
}

impl Village {
    async fn settle(world: &World) -> Village {
        let ada = world.person("ada", Way::Json).await;
        let second = world.second_device("ada", Way::Cbor).await;
        let ben = world.person("ben", Way::Polling).await;
        let cleo = world.person("cleo", Way::Cbor).await;
        let all = [ben.user, cleo.user];
        let lasting = group(&ada, &all, named("lasting")).await;
        let fleeting = group(&ada, &all, until_delivered()).await;
        let settings = Settings {
            vanish_after_ms: Some(2_000),
            ..named("vanishing")
        };
        let vanishing = group(&ada, &all, settings).await;
        let mut village = Village {
            ada,
            second,
            ben,
            cleo,
            lasting,
            fleeting,
            vanishing,
            owed: Vec::new(),
        };
        for round in 0..3 {
            village.live(round).await;
        }
        village.cleo.level().await;
        village.cleo.set_online(false);
        village
    }

    /// Messages, edits, deletions, reactions, and what vanishes.
    async fn live(&mut self, round: usize) {
        let (ada, ben) = (&self.ada, &self.ben);
        let at = |group| Place::In(group);
        let say = |text: &str| format!("{text} {round}");
        let first = ada.sent(ada.say(at(self.lasting), &say("first"))).await;
        let second = ben.sent(ben.say(at(self.lasting), &say("second"))).await;
        let third = ada.sent(ada.say(at(self.lasting), &say("third"))).await;
        let edit = Action::Edit(EditAction {
            target: first,
            content: content(&say("rather")),
        });
        ada.sent(ada.send(at(self.lasting), edit)).await;
        ben.sent(ben.send(at(self.lasting), react(first, "+1")))
            .await;
        ada.sent(ada.send(at(self.lasting), react(second, "heart")))
            .await;
        ada.sent(ada.send(at(self.lasting), delete(third))).await;
        ada.sent(ada.say(at(self.vanishing), &say("soon gone")))
            .await;
        let owed = say("for everyone");
        ben.sent(ben.say(at(self.fleeting), &owed)).await;
        self.owed.push(owed);
        ben.read(self.lasting, second);
        let talk = direct_id(ada.user, ben.user);
        let said = ada.sent(ada.say(Place::To(ben.user), &say("direct"))).await;
        ada.sees_delivered(talk, ben.user, said).await;
    }

    fn devices(&self) -> [&Device; 4] {
        [&self.ada, &self.second, &self.ben, &self.cleo]
    }

    fn connect_at(&self, ports: [u16; 2]) {
        for (number, device) in self.devices().into_iter().enumerate() {
            device.set_port(ports[number % 2]);
        }
    }

    async fn all_here(&self, world: &World) {
        self.cleo.set_online(true);
        let levels = self.devices().map(Device::level);
        futures_util::future::join_all(levels).await;
        // What everybody has goes now: not while it is looked at.
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let fleeting = world.conversation(&self.ada.token, self.fleeting).await;
            if fleeting.trimmed == fleeting.head {
                break;
            }
            assert!(Instant::now() < until, "not trimmed: {fleeting:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        all_level(world.port(), &self.devices()).await;
        for device in self.devices() {
            let memory = device.memory();
            let resets: u64 = memory.logs.values().map(|log| log.resets).sum();
            assert_eq!(resets, 0, "{}: nobody begins anew", device.name);
            assert_eq!(memory.logged_out, None, "{}", device.name);
            let owed = memory.said(self.fleeting);
            assert_eq!(owed, self.owed, "{}: each once", device.name);
        }
        let texts = self.ada.memory().said(self.lasting);
        for device in self.devices() {
            assert_eq!(device.memory().said(self.lasting), texts, "{}", device.name);
        }
    }
}

async fn moved(from: &Server, to: &Server, flags: &[&str]) -> String {
    let (is_well, said) = from.move_to(to, flags).await;
    println!("{said}\n");
    assert!(is_well, "{said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_moves_into_a_cluster_and_back_while_people_talk() {
    let test = "a_deployment_moves_into_a_cluster_and_back_while_people_talk";
    let mut old = World::start(test).await;
    let mut cluster = Cluster::prepare(test, 2, &Ground::shared(), &[]).await;
    let mut village = Village::settle(&old).await;
    village.live(3).await;
    let talkers = Talkers::start(std::slice::from_ref(&old), PAIRS, old.seed).await;

    // While they talk.
    let first = moved(&old.server, &cluster.at(0).server, &[]).await;
    assert!(first.contains("not the last round"), "{first}");
    let refused = cluster.at(0).server.serve_refused().await;
    assert!(refused.contains("being moved"), "{refused}");
    // What was copied already is deleted, edited, reacted to, and has vanished by now.
    village.live(4).await;
    let entries: Vec<_> = village
        .ada
        .memory()
        .log(village.lasting)
        .entries
        .into_values()
        .collect();
    let copied = entries.iter().find(|entry| {
        let text = entry.content.as_ref().map(|content| content.text.as_str());
        text == Some("first 1") && entry.author == village.ada.user
    });
    let gone = village
        .ada
        .send(Place::In(village.lasting), delete(copied.unwrap().seq));
    village.ada.sent(gone).await;
    moved(&old.server, &cluster.at(0).server, &[]).await;

    old.server.stop().await;
    let last = moved(&old.server, &cluster.at(0).server, &[]).await;
    assert!(last.contains("\n0 left\n"), "{last}");
    cluster.start_all().await;
    let ports = [cluster.at(0).port(), cluster.at(1).port()];
    village.connect_at(ports);
    talkers.move_from(old.port(), ports[1]);
    village.live(5).await;
    village.all_here(cluster.at(0)).await;
    // The target lives: no further round goes into it.
    let (is_well, said) = old.server.move_to(&cluster.at(0).server, &[]).await;
    assert!(
        !is_well && said.contains("holds something already"),
        "{said}"
    );

    // And back, onto another machine.
    village.cleo.set_online(false);
    village.live(6).await;
    let server = Server::prepare(&[]);
    let mut new = World {
        server,
        seed: old.seed,
        keyspace: None,
    };
    moved(&cluster.at(0).server, &new.server, &[]).await;
    village.live(7).await;
    for world in &mut cluster.worlds {
        world.server.stop().await;
    }
    let last = moved(&cluster.at(0).server, &new.server, &["--stopped"]).await;
    assert!(last.contains("\n0 left\n"), "{last}");
    new.server.verify().await;
    new.server.start_again().await;
    village.connect_at([new.port(), new.port()]);
    talkers.move_from(ports[0], new.port());
    talkers.move_from(ports[1], new.port());
    village.live(8).await;
    village.all_here(&new).await;
    let everybody: Vec<UserId> = talkers.devices().map(|device| device.user).collect();
    assert_eq!(everybody.len(), PAIRS * 3);
    talkers.finish(new.port()).await;
    new.server.stop().await;
    new.server.verify().await;
}

/// How many messages are copied a second: prints it. `tidings-load` (beside the program) says the messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn how_fast_a_move_is() {
    let test = "how_fast_a_move_is";
    let mut old = World::start(test).await;
    let cluster = Cluster::prepare(test, 1, &Ground::shared(), &[]).await;
    let server = format!("http://127.0.0.1:{}", old.port());
    let load = tidings_testing::server::program().with_file_name("tidings-load");
    let load = std::process::Command::new(load)
        .args([
            "--server",
            &server,
            "chat",
            "--pairs",
            "50",
            "--seconds",
            "30",
        ])
        .output();
    println!("{}", String::from_utf8_lossy(&load.unwrap().stdout));
    let timed = async |from: &Server, to: &Server, what: &str, flags: &[&str]| {
        let began = Instant::now();
        let said = moved(from, to, flags).await;
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
        said
    };
    let to = &cluster.at(0).server;
    timed(&old.server, to, "while the server runs", &[]).await;
    old.server.stop().await;
    timed(&old.server, to, "the last round", &[]).await;
    let back = Server::prepare(&[]);
    timed(to, &back, "back", &["--stopped"]).await;
    timed(to, &back, "back, once more", &["--stopped"]).await;
    back.verify().await;
}
