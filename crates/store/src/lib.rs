//! The store's trait, an in-memory implementation and the conformance suite.
