//! The program `tidings`: gateway, users, chat, presence, configuration.

pub mod chat;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod doctor;
pub mod gateway;
pub mod health;
pub mod hub;
pub mod metrics;
pub mod moving;
pub mod presence;
pub mod serve;
pub mod session;
mod single_flight;
pub mod trace;
pub mod users;
