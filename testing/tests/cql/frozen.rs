//! Nodes that freeze with requests in them, which land when nobody expects them any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidings_core::log::LogId;
use tidings_store::{DocumentKind, Store};
use tidings_store_cql::CqlStore;
use tidings_testing::chance::{Chance, rounds, seed};
use tokio::task::JoinSet;

use crate::documents::{Told, add_name, check_names, put};
use crate::entries::{Answer, Tried, check_log, id, insist, new_client_id, try_at, try_once};
use crate::ring::Ring;
use crate::support::{RUNTIME, run};

/// Logs that are written to at the same time.
const LOGS: usize = 5;

/// Writes to a log until told to stop: now once, come what may, now until it knows.
async fn write(
    store: Arc<CqlStore>,
    log: LogId,
    mut chance: Chance,
    stop: Arc<AtomicBool>,
) -> (LogId, Vec<Tried>) {
    let mut tried = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let client_id = new_client_id(&mut chance);
        if chance.percent(50) {
            tried.extend(try_once(&*store, log, client_id).await);
        } else {
            tried.push(insist(&*store, log, client_id).await);
        }
    }
    (log, tried)
}

async fn pause(chance: &mut Chance, low_ms: u64, high_ms: u64) {
    tokio::time::sleep(Duration::from_millis(chance.between(low_ms, high_ms))).await;
}

#[test]
fn an_append_that_sleeps_in_a_frozen_coordinator_does_no_harm_when_it_wakes() {
    let mut ring = Ring::take();
    let seed = seed("an_append_that_sleeps");
    // The one that is caught gives up soon, and then it does not know what became of its appends.
    let impatient = ring.open_with(|settings| settings.patience = Duration::from_millis(800));
    let stores = [impatient, ring.open()];
    let audit = ring.open();
    for round in 0..rounds(3) {
        let mut chance = Chance::part(seed, round);
        let node = chance.below(3) as usize;
        let logs: Vec<LogId> = (0..LOGS).map(|_| ring.log_at(node, &mut chance)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        let mut start = |store: &Arc<CqlStore>, chance: &mut Chance| {
            for log in &logs {
                let chance = Chance::new(chance.number());
                writers.spawn_on(
                    write(store.clone(), *log, chance, stop.clone()),
                    RUNTIME.handle(),
                );
            }
        };
        start(&stores[0], &mut chance);
        run(pause(&mut chance, 300, 600));
        ring.freeze(node);
        // Another server takes over, and finds out what became of what is under way.
        start(&stores[1], &mut chance);
        run(pause(&mut chance, 1_200, 3_000));
        ring.thaw(node);
        run(pause(&mut chance, 200, 600));
        stop.store(true, Ordering::Relaxed);
        let tried = run(writers.join_all());
        // What slept has landed by now.
        run(pause(&mut chance, 1_000, 1_000));
        let mut counts = [0; 3];
        let mut entries = 0;
        for log in logs {
            let of_log: Vec<Tried> = tried
                .iter()
                .filter(|(of, _)| *of == log)
                .flat_map(|(_, tried)| tried.iter().copied())
                .collect();
            for tried in &of_log {
                counts[match tried.answer {
                    Answer::In(_) => 0,
                    Answer::Not => 1,
                    Answer::Unknown => 2,
                }] += 1;
            }
            entries += run(check_log(&*audit, log, &of_log));
        }
        let [acknowledged, refused, unknown] = counts;
        println!(
            "round {round}, node {node} frozen: {entries} entries, {acknowledged} acknowledged, {refused} refused, {unknown} unknown"
        );
        assert!(acknowledged > 0);
    }
}

/// All servers choose the same coordinator for a log, since two would contend: so a frozen node is in the way of
/// the logs of which it is the first replica, and of no others. And what slept in it lands once or never.
#[test]
fn the_first_replica_of_a_log_coordinates_its_appends_for_every_server() {
    let mut ring = Ring::take();
    let mut chance = Chance::new(seed("the_first_replica_of_a_log"));
    // Without patience they try once.
    let stores = [(); 2].map(|()| {
        ring.open_with(|settings| {
            settings.patience = Duration::ZERO;
            settings.request_timeout = Duration::from_secs(2);
        })
    });
    let audit = ring.open();
    let node = chance.below(3) as usize;
    let mut logs = Vec::new();
    for coordinator in 0..3 {
        for store in &stores {
            for _ in 0..3 {
                let log = ring.log_at(coordinator, &mut chance);
                // Who knows where a log ends has nothing to ask before the next append.
                let first = run(insist(&**store, log, new_client_id(&mut chance)));
                logs.push((coordinator, store, log, first));
            }
        }
    }
    ring.freeze(node);
    let tries = logs.iter().map(|(_, store, log, _)| {
        let client_id = new_client_id(&mut chance);
        async move { try_at(&***store, *log, 2, client_id).await }
    });
    let tried = run(futures_util::future::join_all(tries));
    ring.thaw(node);
    run(pause(&mut chance, 2_000, 2_000));
    let mut landed = 0;
    for ((coordinator, _, log, first), second) in logs.into_iter().zip(tried) {
        let is_settled = second.answer != Answer::Unknown;
        assert_eq!(is_settled, coordinator != node, "{second:?}");
        let entries = run(check_log(&*audit, log, &[first, second]));
        assert!(entries <= 2);
        landed += usize::from(coordinator == node && entries == 2);
    }
    println!("{landed} of 6 landed after node {node} woke");
}

#[test]
fn no_change_of_a_document_is_lost_while_a_node_is_frozen() {
    let mut ring = Ring::take();
    let mut chance = Chance::new(seed("no_change_while_a_node_is_frozen"));
    let stores = [ring.open(), ring.open()];
    let node = chance.below(3) as usize;
    let key = key_at(&ring, node, &mut chance);
    let stop = Arc::new(AtomicBool::new(false));
    let mut servers = JoinSet::new();
    for (server, store) in (0..4_u64).zip(stores.iter().cycle()) {
        let (store, stop) = (store.clone(), stop.clone());
        let changes = async move {
            let mut told = Told::default();
            for change in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                add_name(&*store, &key, server * 1_000_000 + change, &mut told).await;
            }
            told
        };
        servers.spawn_on(changes, RUNTIME.handle());
    }
    run(pause(&mut chance, 500, 800));
    ring.freeze(node);
    run(pause(&mut chance, 2_000, 3_000));
    ring.thaw(node);
    run(pause(&mut chance, 300, 600));
    stop.store(true, Ordering::Relaxed);
    let told = run(servers.join_all());
    run(pause(&mut chance, 1_000, 1_000));
    let changes = run(check_names(&*stores[0], &key, &told));
    let sum = |names: fn(&Told) -> usize| -> usize { told.iter().map(names).sum() };
    println!(
        "{changes} changes: {} acknowledged, {} refused, {} unknown",
        sum(|told| told.changed.len()),
        sum(|told| told.refused.len()),
        sum(|told| told.unknown.len()),
    );
    assert!(changes > 0);
}

/// A key of a document whose first replica is this node.
fn key_at(ring: &Ring, node: usize, chance: &mut Chance) -> [u8; 16] {
    let is_there = |key: &[u8; 16]| {
        let partition = (DocumentKind::Private as i8, key.to_vec());
        ring.first_replica("documents", &partition) == node
    };
    std::iter::repeat_with(|| id(chance))
        .find(is_there)
        .expect("one of some")
}

#[test]
fn a_document_that_was_deleted_does_not_come_back_when_a_node_wakes() {
    let mut ring = Ring::take();
    let mut chance = Chance::new(seed("a_document_that_was_deleted"));
    let stores = [ring.open(), ring.open()];
    let node = chance.below(3) as usize;
    let keys: Vec<[u8; 16]> = (0..4).map(|_| key_at(&ring, node, &mut chance)).collect();
    ring.freeze(node);
    // The first try of each sleeps in the frozen node, the second is elsewhere.
    let make = |key: &[u8; 16]| stores[0].put_document(put(key, Some(0), Some(b"made".to_vec())));
    for made in run(futures_util::future::join_all(keys.iter().map(make))) {
        made.expect("it is made");
    }
    let delete = |key: &[u8; 16]| stores[1].put_document(put(key, None, None));
    for deleted in run(futures_util::future::join_all(keys.iter().map(delete))) {
        deleted.expect("it is deleted");
    }
    let begun = Instant::now();
    ring.open();
    println!("opened with a frozen node in {:?}", begun.elapsed());
    ring.thaw(node);
    run(pause(&mut chance, 3_000, 3_000));
    for key in keys {
        let found = run(stores[1].document(DocumentKind::Private, key.to_vec()));
        assert_eq!(found, Ok(None));
    }
}
