//! Where the cluster is and how patient to be with it.

use std::time::Duration;

/// How to reach the cluster, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `host:port` of some nodes; the others are learned from them.
    pub contact_points: Vec<String>,
    /// The keyspace that holds everything.
    pub keyspace: String,
    /// Name and password, if the cluster asks for them.
    pub credentials: Option<(String, String)>,
    /// Prefer the nodes of this data centre.
    pub data_centre: Option<String>,
    /// How long one attempt of one request may take.
    pub request_timeout: Duration,
    /// How long a request is tried again before the store says that it cannot do it.
    pub patience: Duration,
    /// For how long envelopes and client ids of trimmed entries are kept.
    pub envelopes_kept: Duration,
}

impl Settings {
    /// The defaults, for a cluster with these nodes and this keyspace.
    #[must_use]
    pub fn new(contact_points: Vec<String>, keyspace: &str) -> Settings {
        Settings {
            contact_points,
            keyspace: keyspace.to_owned(),
            credentials: None,
            data_centre: None,
            request_timeout: Duration::from_secs(1),
            patience: Duration::from_secs(8),
            envelopes_kept: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// How a keyspace is laid over the nodes; used only when `migrate` makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// So many copies, wherever they are: one data centre.
    Simple(u8),
    /// So many copies in each of these data centres.
    DataCentres(Vec<(String, u8)>),
}
