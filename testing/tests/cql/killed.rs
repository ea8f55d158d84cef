//! `kill -9` of one node of three.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings_core::log::LogId;
use tidings_store_cql::CqlStore;
use tidings_testing::chance::{Chance, seed};
use tokio::task::JoinSet;

use crate::entries::{Tried, check_log, insist, new_client_id, new_log};
use crate::ring::Ring;
use crate::support::{RUNTIME, run};

const LOGS: usize = 20;

/// What was acknowledged, and how long it took.
struct Acknowledged {
    log: LogId,
    tried: Tried,
    at: Instant,
    took: Duration,
}

async fn write(
    store: Arc<CqlStore>,
    logs: Vec<LogId>,
    mut chance: Chance,
    stop: Arc<AtomicBool>,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let log = logs[chance.below(logs.len() as u64) as usize];
        let client_id = new_client_id(&mut chance);
        let begun = Instant::now();
        acknowledged.push(Acknowledged {
            log,
            tried: insist(&*store, log, client_id).await,
            at: Instant::now(),
            took: begun.elapsed(),
        });
    }
    acknowledged
}

#[test]
fn the_death_of_one_node_of_three_loses_nothing_and_stops_nobody_for_long() {
    let mut ring = Ring::take();
    let mut chance = Chance::new(seed("the_death_of_one_node"));
    let logs: Vec<LogId> = (0..LOGS).map(|_| new_log(&mut chance)).collect();
    // Two servers that write to the same logs.
    let stores = [ring.open(), ring.open()];
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for index in 0..4 {
        let store = stores[index % 2].clone();
        let chance = Chance::new(chance.number());
        let writer = write(store, logs.clone(), chance, stop.clone());
        writers.spawn_on(writer, RUNTIME.handle());
    }
    std::thread::sleep(Duration::from_secs(2));
    let node = chance.below(3) as usize;
    ring.kill(node);
    let killed = Instant::now();
    std::thread::sleep(Duration::from_secs(8));
    let opening = Instant::now();
    let audit = ring.open();
    println!("opened with a dead node in {:?}", opening.elapsed());
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<Acknowledged> = run(writers.join_all()).into_iter().flatten().collect();
    let check = || -> usize {
        let check_one = |log: &LogId| {
            let of_log = acknowledged.iter().filter(|one| one.log == *log);
            let tried: Vec<Tried> = of_log.map(|one| one.tried).collect();
            run(check_log(&*audit, *log, &tried))
        };
        logs.iter().map(check_one).sum()
    };
    let entries = check();
    let after = acknowledged.iter().filter(|one| one.at > killed);
    let took: Vec<Duration> = after.map(|one| one.took).collect();
    let longest = took.iter().max().copied().unwrap_or(Duration::MAX);
    println!(
        "{entries} entries, {} after the death of node {node}, of which the slowest took {longest:?}",
        took.len()
    );
    assert!(longest < Duration::from_secs(10));
    ring.restart(node);
    assert_eq!(check(), entries, "as before when it is back");
}
