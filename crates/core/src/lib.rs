//! The rules of a conversation as a pure state machine: ids, logs, watermarks, decide and apply.
