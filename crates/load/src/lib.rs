//! The load generator `tidings-load`.
