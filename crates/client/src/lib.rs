//! The client core without I/O: outbox, sync, conversations, ticks.
