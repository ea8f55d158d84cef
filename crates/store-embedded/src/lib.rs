//! The embedded store: one LSM tree in a data directory, one committer.
