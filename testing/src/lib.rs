//! Simulation, fault harnesses and end-to-end tests.

pub mod actors;
pub mod cassandra;
pub mod chance;
pub mod cluster;
pub mod collector;
pub mod flows;
pub mod http;
pub mod nats;
mod process;
pub mod prometheus;
pub mod proxy;
pub mod queries;
pub mod server;
pub mod sim;
pub mod talkers;
pub mod wire;
pub mod world;
