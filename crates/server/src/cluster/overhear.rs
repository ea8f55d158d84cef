//! Listens to the servers of a cluster without being one: for `tidings doctor`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use futures_util::StreamExt;
use tidings_core::Time;
use tidings_core::log::Generation;

use super::message::{Beat, Message, NodeId};
use super::wire::{self, To};
use crate::clock::{Clock, random};
use crate::config::{ClusterSettings, NatsSettings};

/// Every server has said that it is there within this time.
const LISTENS: Duration = Duration::from_millis(2_500);
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Overheard {
    /// How long a message took to NATS and back.
    pub round_trip: Duration,
    /// The servers.
    pub servers: Vec<Server>,
}

/// A server of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Server {
    /// Its id, new at each start.
    pub id: String,
    /// Where clients reach it; may be empty.
    pub address: String,
    /// Its version; empty if it is too old to say.
    pub version: String,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub ahead_ms: i64,
}

/// Connects to NATS, tries a round trip, and listens for a moment.
///
/// # Errors
/// Says in words why NATS cannot be used.
pub async fn overhear(nats: &NatsSettings, cluster: &ClusterSettings) -> Result<Overheard, String> {
    let options = wire::with_login(ConnectOptions::new(), nats).name("tidings doctor");
    let options = options.connection_timeout(ANSWER_MAX);
    let urls: Vec<&str> = nats.urls.split(',').map(str::trim).collect();
    let connecting = tokio::time::timeout(ANSWER_MAX, options.connect(urls)).await;
    let client = connecting.map_err(|_| "it does not answer".to_owned())?;
    let client = client.map_err(|error| error.to_string())?;
    let prefix = format!("tidings.{}", cluster.name);

    // A subject of its own, as each server has one.
    let own = wire::subject(
        &prefix,
        To::One(Generation::new(Clock::System.now(), random()).0),
    );
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let mut back = client
        .subscribe(own.clone())
        .await
        .map_err(|error| failed(&error))?;
    let all = wire::subject(&prefix, To::All);
    let mut all = client
        .subscribe(all)
        .await
        .map_err(|error| failed(&error))?;
    let began = Instant::now();
    let sent = client.publish(own, "back".into()).await;
    sent.map_err(|error| failed(&error))?;
    let returned = tokio::time::timeout(ANSWER_MAX, back.next()).await;
    if !matches!(returned, Ok(Some(_))) {
        return Err(
            "a message does not come back: may this user publish and subscribe?".to_owned(),
        );
    }
    let round_trip = began.elapsed();

    let mut servers = BTreeMap::new();
    let listening = async {
        while let Some(message) = all.next().await {
            let now = Clock::System.now();
            for message in wire::split(message.payload) {
                if let Ok(Some(Message::Beat(beat))) = Message::decode(&message) {
                    servers.insert(beat.node, server_of(beat, now));
                }
            }
        }
    };
    // It ends by its time alone.
    let _ = tokio::time::timeout(LISTENS, listening).await;
    Ok(Overheard {
        round_trip,
        servers: servers.into_values().collect(),
    })
}

fn server_of(beat: Beat, now: Time) -> Server {
    let ahead = |theirs: u64, ours: u64| {
        i64::try_from(theirs).unwrap_or(0) - i64::try_from(ours).unwrap_or(0)
    };
    let node: NodeId = beat.node;
    Server {
        id: Generation(node).to_string(),
        ahead_ms: ahead(beat.at.0, now.0),
        address: beat.address,
        version: beat.version,
    }
}
