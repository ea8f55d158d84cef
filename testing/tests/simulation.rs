//! The simulator: many short lives of a server and its clients, each from a seed.
//!
//! `TIDINGS_SEED=7` replays one seed, `TIDINGS_TEST_SEEDS=100000` runs more of them.

use std::sync::atomic::{AtomicU64, Ordering};

use tidings_testing::sim::{Plan, run};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Names the seed of a run that fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with TIDINGS_SEED={}", self.0);
        }
    }
}

fn run_seeds(count: u64, plan: Plan) {
    if let Some(seed) = number("TIDINGS_SEED") {
        let _replay = Replay(seed);
        return run(seed, plan);
    }
    let count = number("TIDINGS_TEST_SEEDS").unwrap_or(count);
    println!("seeds 1 to {count}");
    let next = AtomicU64::new(1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > count {
                        return;
                    }
                    let _replay = Replay(seed);
                    run(seed, plan);
                }
            });
        }
    });
}

#[test]
fn a_thousand_seeds() {
    run_seeds(1_000, Plan::default());
}

/// The server's data is put back to an older copy: every device notices and begins anew.
#[test]
fn roll_backs() {
    run_seeds(
        200,
        Plan {
            roll_backs: true,
            ..Plan::default()
        },
    );
}
