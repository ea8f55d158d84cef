//! What is the gateway's own, over real sockets.

mod http;
mod polling;
mod websocket;
mod world;
