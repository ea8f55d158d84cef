//! The OpenAPI 3.1 document of the addresses, from the table in [`routes`](super::routes).

use axum::body::Bytes;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use tidings_protocol::Problem;

use super::routes::{self, Route, SchemaOf};

const ABOUT: &str = "Accounts, conversations and sending over HTTP; events by long polling and server-sent \
    events. The same requests go over a WebSocket (`/v1/asyncapi.json`). Errors are problem documents \
    (RFC 9457). Where an answer has an `id`, it is 0: it belongs to the frames of a connection.";

/// The document, ready to be served.
pub(super) fn document() -> Bytes {
    describe().to_string().into()
}

/// A generator whose types end up in `components`.
pub(super) fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator()
}

fn describe() -> Value {
    let mut generator = generator();
    let problem = generator.subschema_for::<Problem>();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes::all() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] =
            operation(&mut generator, &route, &problem);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidings",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "cookie": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "The session token of a login." },
                "cookie": {
                    "type": "apiKey", "in": "cookie", "name": "__Host-tidings_session",
                    "description": "Browsers, on this site's own pages.",
                },
            },
        },
    })
}

fn operation(generator: &mut SchemaGenerator, route: &Route, problem: &Schema) -> Value {
    let mut parameters = path_parameters(route.path);
    if let Some(query) = route.query {
        parameters.extend(query_parameters(generator, query));
    }
    let mut good = json!({ "description": "Done." });
    if let Some(answer) = route.answer {
        good = json!({
            "description": "The answer.",
            "content": { "application/json": { "schema": answer(generator) } },
        });
    } else if route.media_type != "application/json" {
        good = json!({ "description": "The answer.", "content": { route.media_type: {} } });
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            route.good_status().to_string(): good,
            "default": {
                "description": "A problem.",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": body(generator) } },
        });
    }
    if !route.signed {
        operation["security"] = json!([]);
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let path: String = route
        .path
        .trim_matches('/')
        .chars()
        .filter(|character| !matches!(character, '{' | '}'))
        .map(|character| {
            if character.is_alphanumeric() {
                character
            } else {
                '_'
            }
        })
        .collect();
    let method = route.method.as_str().to_ascii_lowercase();
    if path.is_empty() {
        format!("{method}_root")
    } else {
        format!("{method}_{path}")
    }
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let schema = match name {
                "seq" => json!({ "type": "integer", "minimum": 1 }),
                _ => json!({ "type": "string" }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect()
}

/// Each field of the query's type is a parameter.
fn query_parameters(generator: &mut SchemaGenerator, query: SchemaOf) -> Vec<Value> {
    let schema = query(generator).to_value();
    let name = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next());
    let definition = name.and_then(|name| generator.definitions_mut().remove(name));
    let Some(Value::Object(fields)) = definition.as_ref().map(|schema| &schema["properties"])
    else {
        return Vec::new();
    };
    fields
        .iter()
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            json!({ "name": name, "in": "query", "description": description, "schema": schema })
        })
        .collect()
}

#[cfg(test)]
/// Every `$ref` leads somewhere.
pub(super) fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(path)) = fields.get("$ref") {
                let pointer = path.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{path}");
            }
            fields
                .values()
                .for_each(|value| check_references(document, value));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|value| check_references(document, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described() {
        let document = describe();
        check_references(&document, &document);
        let mut ids = BTreeSet::new();
        for route in routes::all() {
            let path = &document["paths"][route.path];
            let operation = &path[route.method.as_str().to_ascii_lowercase()];
            let id = operation["operationId"].as_str().unwrap().to_owned();
            assert!(ids.insert(id.clone()), "{id} twice");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let status = route.good_status().to_string();
            assert!(operation["responses"][status].is_object(), "{id}");
            let takes_body = matches!(route.method.as_str(), "POST" | "PATCH" | "PUT");
            let bare = ["/v1/logout", "/v1/blocks/{user}"];
            assert_eq!(
                operation["requestBody"].is_object(),
                takes_body && !bare.contains(&route.path),
                "{id}"
            );
            if let Some(query) = route.query {
                let known = operation["parameters"].as_array().unwrap();
                assert!(
                    known.iter().any(|parameter| parameter["in"] == "query"),
                    "{id}"
                );
                let _ = query;
            }
        }
        let entries = &document["paths"]["/v1/conversations/{conversation}/entries"]["get"];
        let names: Vec<&str> = entries["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["conversation", "after", "around", "before", "limit"]
        );
    }
}
