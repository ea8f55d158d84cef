//! The rules of a conversation against random histories: whatever several people and their devices
//! try, in whatever order, with retries, lost answers and clocks that jump.
//!
//! A history is a list of random numbers. [`commands`] makes a command of each, given what the
//! conversation is by then; [`world`] decides and applies it, and keeps beside it a naive account of
//! the same; [`expect`] compares the two.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod codec;
mod commands;
mod examples;
mod expect;
mod valid;
mod world;

use proptest::prelude::*;

use world::World;

/// Numbers of one history. The default of 256 cases decides more than a million commands.
const STEPS_MAX: usize = 10_000;

proptest! {
    #[test]
    fn every_history_keeps_the_rules(steps in prop::collection::vec(any::<u64>(), 0..STEPS_MAX)) {
        World::run(&steps);
    }

    #[test]
    fn a_history_decides_the_same_again(steps in prop::collection::vec(any::<u64>(), 0..200)) {
        prop_assert_eq!(World::run(&steps), World::run(&steps));
    }
}
