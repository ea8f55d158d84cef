//! The four flows, and the places where flows usually break: each over real sockets against the real program,
//! by JSON, binary and long polling.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod catching_up;
mod four;
mod slow;

/// The tests themselves, for every way.
mod way {
    pub(crate) use super::catching_up::{
        gap_between_catch_up_and_live, last_message_lost_on_the_wire, last_tick_lost_on_the_wire,
    };
    pub(crate) use super::four::{
        both_flapping, both_online, recipient_offline, sender_offline_for_receipt,
    };
    pub(crate) use super::slow::slow_consumer_costs_only_itself;
}

tidings_testing::each_way! {
    both_online;
    recipient_offline;
    sender_offline_for_receipt;
    both_flapping;
    gap_between_catch_up_and_live;
    last_message_lost_on_the_wire;
    last_tick_lost_on_the_wire;
    slow_consumer_costs_only_itself;
}
