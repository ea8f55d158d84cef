//! What is the gateway's own, over real sockets.

mod compressed;
mod connections;
mod heartbeats;
mod http;
mod polling;
mod short;
mod websocket;
mod world;
