//! The store for more than one machine: Apache Cassandra or ScyllaDB, through CQL.
//!
//! Any number of servers share one keyspace; correctness never depends on which of them does what. An append
//! is one conditional batch in one partition ([`append`]), a mark is a write whose timestamp is its value
//! ([`marks`]), and everything else may be repeated by anybody. `schema.rs` says which statement may write where:
//! only this crate knows CQL.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the overview names the modules"
)]

mod append;
mod cql;
mod documents;
mod examine;
mod expiry;
mod known;
mod late;
mod marks;
mod moving;
mod order;
mod read;
mod rows;
mod schema;
mod settings;
mod settle;
mod states;
mod store;
mod tails;
mod vanish;

pub use examine::{Examined, ExaminedNode, examine};
pub use schema::FORMAT;
pub use settings::{Replication, Settings};
pub use store::{CqlStore, migrate};
