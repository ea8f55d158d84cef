//! `/`: a plain page that says what this is and how to connect.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::{App, credentials};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

pub(super) async fn show(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let page = PAGE
        .replace("{origin}", &origin(&app, &headers))
        .replace("{version}", env!("CARGO_PKG_VERSION"));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ),
    ];
    (headers, page).into_response()
}

pub(super) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, STYLE).into_response()
}

/// Where this page came from, as far as it can be told; nothing but letters of a host gets through.
fn origin(app: &App, headers: &HeaderMap) -> String {
    let public = app.settings.server.public_url.trim_end_matches('/');
    if !public.is_empty() {
        return escape(public);
    }
    let host = credentials::host(headers)
        .filter(|host| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte))
        })
        .unwrap_or("localhost:8080");
    format!("http://{host}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
