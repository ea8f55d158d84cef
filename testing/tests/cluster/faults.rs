//! Faults under load: three servers, three nodes of Cassandra, three NATS servers. Whatever goes wrong, nothing
//! that was acknowledged is lost, doubled or out of order, on any device, and sending goes on before long.

use std::time::{Duration, Instant};

use tidings_testing::cassandra::Cassandra;
use tidings_testing::chance::rounds;
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::talkers::Talkers;

const SERVERS: usize = 3;
const PAIRS: usize = 6;
/// Within this time sending is possible again.
const AGAIN: Duration = Duration::from_secs(10);
/// How much longer a short round may take, which may run on a machine that has other things to do.
const SHORT_SHARES: u32 = 2;

/// Everything that can go wrong, and the people who talk meanwhile.
struct Stage {
    cassandra: Cassandra,
    cluster: Cluster,
    talkers: Talkers,
    rows: Vec<String>,
    /// The longest that a message may wait.
    wait_max: Duration,
}

impl Stage {
    async fn start(test: &str, wait_max: Duration) -> Stage {
        let cassandra = tokio::task::spawn_blocking(|| Cassandra::start(3))
            .await
            .unwrap();
        let ground = Ground {
            contact_points: cassandra.contact_points(),
            replication: 3,
            nats: 3,
        };
        let cluster = Cluster::start(test, SERVERS, &ground, &[]).await;
        let seed = cluster.at(0).seed;
        let talkers = Talkers::start(&cluster.worlds, PAIRS, seed).await;
        let stage = Stage {
            cassandra,
            cluster,
            talkers,
            rows: Vec::new(),
            wait_max,
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.talkers.look();
        stage
    }

    /// Lets them talk on for a while after a fault, and notes how it went.
    async fn note(&mut self, fault: &str, began: Instant) {
        // Whoever waits for a tick since the fault has it by then, or this is the finding.
        tokio::time::sleep(
            AGAIN
                .saturating_sub(began.elapsed())
                .min(Duration::from_secs(3)),
        )
        .await;
        let calm = Instant::now();
        let look = self.talkers.look();
        self.rows.push(format!(
            "{fault:<52} {:>7.2} s {:>6} messages in {:>5.1} s",
            look.worst.as_secs_f64(),
            look.sent,
            calm.duration_since(began).as_secs_f64(),
        ));
        println!("{}", self.rows.last().unwrap());
        // One that comes back takes both cores of a small machine for a while: told, and not asserted.
        assert!(
            fault.contains("back") || look.worst < self.wait_max,
            "{fault}: a message waited for {:?}",
            look.worst
        );
        assert!(look.sent > 0, "{fault}: nothing was sent");
    }

    async fn kill_server(&mut self, number: usize) {
        let began = Instant::now();
        let port = self.cluster.at(number).port();
        let other = self.cluster.at((number + 1) % SERVERS).port();
        self.cluster.worlds[number].server.kill();
        self.talkers.move_from(port, other);
        self.note(&format!("kill -9 of server {number}"), began)
            .await;
        self.cluster.worlds[number].server.start_again().await;
    }

    async fn kill_cassandra(&mut self, node: usize) {
        let began = Instant::now();
        self.cassandra.kill(node);
        self.note(&format!("kill -9 of Cassandra node {node} of three"), began)
            .await;
        let began = Instant::now();
        tokio::task::block_in_place(|| self.cassandra.restart(node));
        self.note(&format!("Cassandra node {node} comes back"), began)
            .await;
    }

    async fn freeze_cassandra(&mut self, node: usize) {
        let began = Instant::now();
        self.cassandra.freeze(node);
        tokio::time::sleep(Duration::from_secs(4)).await;
        self.cassandra.thaw(node);
        self.note(&format!("Cassandra node {node} frozen for 4 s"), began)
            .await;
    }

    async fn kill_nats(&mut self, server: usize) {
        let began = Instant::now();
        self.nats().kill(server);
        self.note(&format!("kill -9 of NATS server {server} of three"), began)
            .await;
        tokio::task::block_in_place(|| self.nats().restart(server));
    }

    async fn lose_nats(&mut self, lasts: Duration) {
        let began = Instant::now();
        for server in 0..3 {
            self.nats().kill(server);
        }
        self.note("all NATS servers gone", began).await;
        let health = self.health(0).await;
        assert!(health.contains("nats"), "the health says so: {health}");
        tokio::time::sleep(lasts.saturating_sub(began.elapsed())).await;
        for server in 0..3 {
            tokio::task::block_in_place(|| self.nats().restart(server));
        }
        self.note(&format!("and back after {} s", lasts.as_secs()), began)
            .await;
    }

    /// The zombie: it stands still, others go on, and then it goes on where it was.
    async fn freeze_server(&mut self, number: usize, lasts: Duration) {
        let began = Instant::now();
        let port = self.cluster.at(number).port();
        let other = self.cluster.at((number + 1) % SERVERS).port();
        self.cluster.at(number).server.freeze();
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.talkers.cut_from(port, other).await;
        tokio::time::sleep(lasts.saturating_sub(began.elapsed())).await;
        self.cluster.at(number).server.thaw();
        self.note(
            &format!("server {number} frozen for {} s", lasts.as_secs()),
            began,
        )
        .await;
    }

    async fn restart_all(&mut self) {
        for number in 0..SERVERS {
            let began = Instant::now();
            let port = self.cluster.at(number).port();
            let other = self.cluster.at((number + 1) % SERVERS).port();
            self.talkers.move_from(port, other);
            self.cluster.worlds[number].server.stop().await;
            self.cluster.worlds[number].server.start_again().await;
            self.note(&format!("rolling restart: server {number}"), began)
                .await;
        }
        for server in 0..3 {
            let began = Instant::now();
            self.nats().kill(server);
            tokio::task::block_in_place(|| self.nats().restart(server));
            self.note(&format!("rolling restart: NATS {server}"), began)
                .await;
        }
        for node in 0..3 {
            let began = Instant::now();
            tokio::task::block_in_place(|| {
                self.cassandra.stop(node);
                self.cassandra.restart(node);
            });
            self.note(&format!("rolling restart: Cassandra {node}"), began)
                .await;
        }
    }

    fn nats(&mut self) -> &mut tidings_testing::nats::Nats {
        self.cluster.nats.as_mut().unwrap()
    }

    async fn health(&self, number: usize) -> String {
        let mut http = tidings_testing::http::Http::new(self.cluster.at(number).port());
        let answer = http.try_request("GET", "/healthz", &[], b"").await.unwrap();
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    async fn finish(self) {
        let port = self.cluster.at(0).port();
        self.talkers.finish(port).await;
        println!("fault                                             longest wait for a tick");
        for row in &self.rows {
            println!("{row}");
        }
    }
}

/// One round of everything; `TIDINGS_TEST_ROUNDS` for more, and longer ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_goes_wrong() {
    // A round takes minutes where one of other tests takes a second.
    let rounds = match rounds(1) {
        1 => 1,
        many => (many / 250).max(2),
    };
    let is_long = rounds > 1;
    let wait_max = if is_long { AGAIN } else { AGAIN * SHORT_SHARES };
    let mut stage = Stage::start("nothing_is_lost_whatever_goes_wrong", wait_max).await;
    let long = |short: u64, long: u64| Duration::from_secs(if is_long { long } else { short });
    for round in 0..rounds {
        let number = (round % 3) as usize;
        stage.kill_server(number).await;
        stage.kill_nats(number).await;
        stage.lose_nats(long(6, 60)).await;
        stage.freeze_server((number + 1) % 3, long(6, 30)).await;
        stage.freeze_cassandra((number + 2) % 3).await;
        stage.kill_cassandra(number).await;
        if is_long {
            stage.restart_all().await;
        }
    }
    stage.finish().await;
}
