//! The way to the other servers: core NATS. Each server listens to a subject of its own and to one for all;
//! what goes to one server within a moment goes in one payload.
//!
//! Nothing is waited for and nothing is repeated: a message that is lost is a hint that is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::Cluster;
use super::message::{Message, NodeId};
use crate::config::NatsSettings;
use crate::metrics::Metrics;

/// Messages that wait to be sent; past it they are dropped.
pub(super) const WAITING_MAX: usize = 65_536;
/// Messages that are put together.
const TOGETHER_MAX: usize = 1_024;
/// Bytes of one payload, about: a server takes 1 MiB by default.
const PAYLOAD_BYTES_MAX: usize = 768 * 1024;
/// How long what was received may wait before the server is found too slow.
const RECEIVED_MAX: usize = 65_536;

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum To {
    All,
    One(NodeId),
}

/// Connects; goes on trying in the background if no server answers.
pub(super) async fn connect(settings: &NatsSettings, name: String) -> Result<Client, String> {
    let mut options = ConnectOptions::new()
        .name(name)
        .retry_on_initial_connect()
        .no_echo()
        .ping_interval(Duration::from_secs(2))
        .connection_timeout(Duration::from_secs(2))
        .subscription_capacity(RECEIVED_MAX)
        .client_capacity(WAITING_MAX)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(100 * (attempts as u64).clamp(1, 10))
        })
        .event_callback(|event| async move { tracing::debug!(%event, "NATS") });
    options = with_login(options, settings);
    let urls: Vec<&str> = settings.urls.split(',').map(str::trim).collect();
    options
        .connect(urls)
        .await
        .map_err(|error| error.to_string())
}

/// Options with the login that is set.
pub(super) fn with_login(options: ConnectOptions, settings: &NatsSettings) -> ConnectOptions {
    if !settings.token.is_empty() {
        options.token(settings.token.clone())
    } else if !settings.user.is_empty() {
        options.user_and_password(settings.user.clone(), settings.password.clone())
    } else {
        options
    }
}

/// Puts messages together by where they go, and sends them.
pub(super) async fn send(
    client: Client,
    prefix: String,
    mut outgoing: mpsc::Receiver<(To, Bytes)>,
    metrics: Arc<Metrics>,
) {
    let mut taken = Vec::with_capacity(TOGETHER_MAX);
    loop {
        if outgoing.recv_many(&mut taken, TOGETHER_MAX).await == 0 {
            return;
        }
        metrics.messages_sent(taken.len());
        let mut payloads: HashMap<To, BytesMut> = HashMap::new();
        for (to, message) in taken.drain(..) {
            let payload = payloads.entry(to).or_default();
            if !payload.is_empty() && payload.len() + message.len() > PAYLOAD_BYTES_MAX {
                publish(&client, &prefix, to, payload.split().freeze()).await;
            }
            payload.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            payload.put(message);
        }
        for (to, payload) in payloads {
            publish(&client, &prefix, to, payload.freeze()).await;
        }
    }
}

async fn publish(client: &Client, prefix: &str, to: To, payload: Bytes) {
    if client.connection_state() != async_nats::connection::State::Connected {
        // The client would keep it and send it later, when it is news no more.
        return;
    }
    if let Err(error) = client.publish(subject(prefix, to), payload).await {
        tracing::debug!(%error, "news were not sent");
    }
}

/// Hands what comes to the cluster, in the order in which it comes.
pub(super) async fn receive(client: Client, prefix: String, cluster: Arc<Cluster>) {
    loop {
        let own = client
            .subscribe(subject(&prefix, To::One(cluster.me)))
            .await;
        let all = client.subscribe(subject(&prefix, To::All)).await;
        let (Ok(own), Ok(all)) = (own, all) else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let mut received = futures_util::stream::select(own, all);
        while let Some(message) = received.next().await {
            let messages = split(message.payload);
            cluster.metrics.messages_received(messages.len());
            for message in messages {
                match Message::decode(&message) {
                    Ok(Some(message)) => cluster.heard(message),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "another server said something unreadable")
                    }
                }
            }
        }
    }
}

/// The messages of a payload.
pub(super) fn split(mut payload: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some(length) = payload.first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if payload.len() < 4 + length {
            break;
        }
        messages.push(payload.slice(4..4 + length));
        payload = payload.slice(4 + length..);
    }
    messages
}

pub(super) fn subject(prefix: &str, to: To) -> String {
    match to {
        To::All => format!("{prefix}.all"),
        To::One(node) => {
            let mut buffer = [0; ulid::ULID_LEN];
            let name = ulid::Ulid::from_bytes(node);
            format!("{prefix}.node.{}", name.array_to_str(&mut buffer))
        }
    }
}

/// Whether a message is small enough to be sent.
pub(super) fn fits(message: &[u8]) -> bool {
    message.len() < PAYLOAD_BYTES_MAX
}
