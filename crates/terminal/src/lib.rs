//! The terminal clients: `tidings chat`, `tidings send`, `tidings tail`.
