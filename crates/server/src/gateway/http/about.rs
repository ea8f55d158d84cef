//! About the server: limits, health, the descriptions of the interface.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tidings_protocol::{Code, Problem};

use crate::gateway::extract::Anybody;
use crate::gateway::problem::{Answer, json};
use crate::gateway::{App, asyncapi, openapi};

/// The sections of the settings that clients may know.
const SHOWN: [&str; 5] = ["limits", "sessions", "users", "presence", "chat"];

/// Every limit by section and name, as in the configuration.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(in crate::gateway) struct Limits(
    std::collections::BTreeMap<String, std::collections::BTreeMap<String, serde_json::Value>>,
);

pub(in crate::gateway) async fn limits(State(app): State<Arc<App>>, _: Anybody) -> Answer {
    let mut table = app.settings.table();
    table.retain(|section, _| SHOWN.contains(&section));
    Ok(json(table))
}

pub(in crate::gateway) async fn openapi(State(app): State<Arc<App>>, _: Anybody) -> Answer {
    Ok(document(app.openapi.get_or_init(openapi::document)))
}

pub(in crate::gateway) async fn asyncapi(State(app): State<Arc<App>>, _: Anybody) -> Answer {
    Ok(document(app.asyncapi.get_or_init(asyncapi::document)))
}

fn document(bytes: &Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, bytes.clone()).into_response()
}

/// The process runs; behind it what is not well.
pub(in crate::gateway) async fn healthz(State(app): State<Arc<App>>) -> String {
    format!("ok\n{}", app.health.report())
}

/// The process takes new sessions.
pub(in crate::gateway) async fn readyz(State(app): State<Arc<App>>) -> Answer {
    if app.is_draining() {
        let report = app.health.report();
        let detail = report.trim_end();
        let problem = Problem::new(Code::Draining);
        return Err(match detail.is_empty() {
            true => problem.into(),
            false => problem.detail(detail).into(),
        });
    }
    Ok((StatusCode::OK, format!("ready\n{}", app.health.report())).into_response())
}
