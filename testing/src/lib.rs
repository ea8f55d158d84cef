//! Simulation, fault harnesses and end-to-end tests.

pub mod chance;
pub mod http;
pub mod proxy;
pub mod server;
pub mod sim;
pub mod wire;
pub mod world;
