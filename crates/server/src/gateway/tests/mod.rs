//! What is the gateway's own, over real sockets.

mod heartbeats;
mod http;
mod polling;
mod websocket;
mod world;
