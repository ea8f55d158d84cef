//! The AsyncAPI 3.0 document of the WebSocket, from the types of the frames and the dispatch table.

use axum::body::Bytes;
use serde_json::{Map, Value, json};
use tidings_protocol::{ClientFrame, ServerFrame};

use super::dispatch::ANSWERS;
use super::openapi::generator;

const ABOUT: &str = "The frames of a connection to `/v1/connect`. The first frame is `hello`. A request \
    carries an `id` and gets exactly one answer with the same `id`: the frame named here, or `error`. \
    Everything else that the server sends is an event. Subprotocols: `tidings.v1.json` (text messages, \
    described here) and `tidings.v1.cbor` (binary messages: the same types, names replaced by their \
    number in the order of declaration).";

/// The document, ready to be served.
pub(super) fn document() -> Bytes {
    describe().to_string().into()
}

fn describe() -> Value {
    let mut generator = generator();
    generator.subschema_for::<ClientFrame>();
    generator.subschema_for::<ServerFrame>();
    let mut schemas = generator.take_definitions(true);
    let requests = frames(schemas.remove("ClientFrame"));
    let events = frames(schemas.remove("ServerFrame"));

    let mut messages = Map::new();
    let mut operations = Map::new();
    for (name, schema) in &requests {
        messages.insert(format!("client.{name}"), message(name, schema));
        let mut operation = json!({
            "action": "receive",
            "channel": { "$ref": "#/channels/connect" },
            "summary": schema["description"],
            "messages": [in_channel(&format!("client.{name}"))],
        });
        if let Some(answer) = answer_of(name) {
            operation["reply"] = json!({
                "channel": { "$ref": "#/channels/connect" },
                "messages": [in_channel(&format!("server.{answer}")), in_channel("server.error")],
            });
        }
        operations.insert(format!("receive_{name}"), operation);
    }
    for (name, schema) in &events {
        messages.insert(format!("server.{name}"), message(name, schema));
        operations.insert(
            format!("send_{name}"),
            json!({
                "action": "send",
                "channel": { "$ref": "#/channels/connect" },
                "summary": schema["description"],
                "messages": [in_channel(&format!("server.{name}"))],
            }),
        );
    }
    let of_channel: Map<String, Value> = messages
        .keys()
        .map(|name| {
            let path = format!("#/components/messages/{name}");
            (name.clone(), json!({ "$ref": path }))
        })
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "this": {
                "host": "{host}",
                "protocol": "wss",
                "variables": { "host": { "default": "localhost:8080", "description": "Where this document came from." } },
            },
        },
        "channels": {
            "connect": { "address": "/v1/connect", "messages": of_channel, "bindings": { "ws": {} } },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas },
    })
}

/// The variants of an enum of frames: name and schema.
fn frames(schema: Option<Value>) -> Vec<(String, Value)> {
    let variants = schema
        .as_ref()
        .and_then(|schema| schema["oneOf"].as_array())
        .cloned()
        .unwrap_or_default();
    variants
        .into_iter()
        .filter_map(|variant| {
            let name = variant["properties"].as_object()?.keys().next()?.clone();
            Some((name, variant))
        })
        .collect()
}

fn message(name: &str, schema: &Value) -> Value {
    json!({
        "name": name,
        "summary": schema["description"],
        "payload": { "schemaFormat": "application/schema+json;version=draft-2020-12", "schema": schema },
    })
}

fn in_channel(message: &str) -> Value {
    json!({ "$ref": format!("#/channels/connect/messages/{message}") })
}

fn answer_of(request: &str) -> Option<&'static str> {
    ANSWERS
        .iter()
        .find(|(name, _)| *name == request)
        .and_then(|(_, answer)| *answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::openapi::check_references;

    #[test]
    fn every_frame_is_described_with_its_answer() {
        let document = describe();
        check_references(&document, &document);
        let messages = document["components"]["messages"].as_object().unwrap();
        let of = |side: &str| {
            messages
                .keys()
                .filter(|name| name.starts_with(side))
                .count()
        };
        assert_eq!(of("client."), ANSWERS.len());
        assert_eq!(of("server."), 22);
        for (request, answer) in ANSWERS {
            let operation = &document["operations"][format!("receive_{request}")];
            assert!(operation.is_object(), "{request}");
            assert_eq!(
                operation["reply"].is_object(),
                answer.is_some(),
                "{request}"
            );
            assert!(!operation["summary"].as_str().unwrap().is_empty());
        }
    }
}
