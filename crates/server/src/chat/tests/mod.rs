//! Conversations over the store in memory, without sockets.

mod cases;
mod diffusion;
mod lanes;
mod marks;
mod retention;
pub(crate) mod shared;
mod world;
