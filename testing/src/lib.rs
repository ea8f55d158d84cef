//! Simulation, fault harnesses and end-to-end tests.
