//! The one table of addresses: what is asked, by whom, what comes in and what goes out. It makes the
//! router and the OpenAPI document alike, so nothing is served that is not described.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use tidings_protocol::account::{
    Blocks, Devices, LogIn, LoggedIn, Me, PasswordChange, ProfileChange, SignUp,
};
use tidings_protocol::mark::Receipts;
use tidings_protocol::presence::{Typing, Users};
use tidings_protocol::send::Sent;
use tidings_protocol::session::{Hello, Private};
use tidings_protocol::sync::{Conversation, HistoryPage, InboxPage, MembersPage};
use tidings_protocol::{ClientFrame, Code, ServerFrame};

use super::http::{about, account, call, conversation, people, sending};
use super::problem::{Failure, Told};
use super::{App, page, poll, polled, sse, ws};
use crate::trace;

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One address and method.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Whether it needs a session token.
    pub(super) signed: bool,
    pub(super) query: Option<SchemaOf>,
    pub(super) body: Option<SchemaOf>,
    pub(super) answer: Option<SchemaOf>,
    /// The status when it goes well.
    pub(super) status: u16,
    /// What the answer is, if not JSON.
    pub(super) media_type: &'static str,
    handler: MethodRouter<Arc<App>>,
}

/// All of them.
#[rustfmt::skip]
pub(super) fn all() -> Vec<Route> {
    vec![
        get("/", page::show, "A page for people").open().media("text/html"),
        get("/style.css", page::style, "The look of the page").open().media("text/css"),
        get("/healthz", about::healthz, "The process runs").open().media("text/plain"),
        get("/readyz", about::readyz, "The server takes new sessions").open().media("text/plain"),
        get("/v1/limits", about::limits, "Every limit by its name").open().answers::<about::Limits>(),
        get("/v1/openapi.json", about::openapi, "This description").open().answers::<serde_json::Value>(),
        get("/v1/asyncapi.json", about::asyncapi, "The frames of a connection").open().answers::<serde_json::Value>(),

        post("/v1/accounts", account::sign_up, "Sign up, and log in on a first device").open()
            .query::<account::SignUpQuery>().takes::<SignUp>().answers::<LoggedIn>().status(201),
        post("/v1/login", account::log_in, "Log in on a new device").open().takes::<LogIn>().answers::<LoggedIn>(),
        post("/v1/logout", account::log_out, "Log out this device"),
        get("/v1/me", account::me, "My profile and privacy").answers::<Me>(),
        patch("/v1/me", account::change_me, "Change my profile or privacy").takes::<ProfileChange>().answers::<Me>(),
        post("/v1/me/password", account::change_password, "Change my password and log out my other devices")
            .takes::<PasswordChange>(),
        get("/v1/devices", account::devices, "My devices").answers::<Devices>(),
        patch("/v1/devices/{device}", account::rename_device, "Give a device another name")
            .takes::<account::DeviceChange>(),
        delete("/v1/devices/{device}", account::revoke_device, "Log out a device"),
        get("/v1/blocks", account::blocks, "Whom I have blocked").answers::<Blocks>(),
        put("/v1/blocks/{user}", account::block, "Block somebody"),
        delete("/v1/blocks/{user}", account::unblock, "Block somebody no longer"),
        get("/v1/users", people::users, "Profiles by id and username").query::<people::UsersQuery>().answers::<Users>(),
        get("/v1/presence", people::presence, "Who is online, and last seen")
            .query::<people::PresenceQuery>().answers::<people::PresenceAnswer>(),
        get("/v1/private", people::private, "A page of my private map")
            .query::<people::PrivateQuery>().answers::<Private>(),
        put("/v1/private/{key}", people::put_private, "Put a value into my private map").takes::<people::PrivateBody>(),
        delete("/v1/private/{key}", people::remove_private, "Remove a value from my private map"),

        get("/v1/conversations", conversation::list, "A page of my conversations, newest first")
            .query::<conversation::InboxQuery>().answers::<InboxPage>(),
        get("/v1/conversations/{conversation}", conversation::one, "One conversation").answers::<Conversation>(),
        get("/v1/conversations/{conversation}/members", conversation::members, "A page of its members")
            .query::<conversation::MembersQuery>().answers::<MembersPage>(),
        get("/v1/conversations/{conversation}/entries", conversation::entries, "A page of its entries")
            .query::<conversation::EntriesQuery>().answers::<HistoryPage>(),
        get("/v1/conversations/{conversation}/entries/{seq}/receipts", conversation::receipts,
            "Who received and read a message").answers::<Receipts>(),
        post("/v1/conversations/{conversation}/entries", sending::to_conversation, "Send to a conversation")
            .takes::<sending::SendBody>().answers::<Sent>().status(201),
        post("/v1/direct/{user}/entries", sending::to_user, "Send to a user, by id or @username")
            .takes::<sending::SendBody>().answers::<Sent>().status(201),
        post("/v1/groups", sending::create_group, "Begin a group")
            .takes::<sending::GroupBody>().answers::<Sent>().status(201),
        post("/v1/conversations/{conversation}/join", sending::join, "Come in by an invite link")
            .takes::<sending::JoinBody>().answers::<Sent>().status(201),
        post("/v1/conversations/{conversation}/leave", sending::leave, "Leave a group")
            .takes::<sending::LeaveBody>().answers::<Sent>().status(201),
        post("/v1/marks", conversation::marks, "Say what was received and read").takes::<conversation::MarksBody>(),
        post("/v1/typing", conversation::typing, "Say that I am typing").takes::<Typing>(),

        get("/v1/connect", ws::connect, "Connect by WebSocket (see /v1/asyncapi.json)").open().status(101)
            .media("application/octet-stream"),
        get("/v1/events", poll::get, "Wait for events").query::<poll::PollQuery>().answers::<polled::PollAnswer>(),
        post("/v1/events", poll::post, "Begin a polling session with a hello")
            .takes::<Hello>().answers::<polled::PollAnswer>(),
        get("/v1/events/stream", sse::stream, "Events as server-sent events").media("text/event-stream"),
        post("/v1/call", call::call, "One frame of a connection, and its answer")
            .query::<call::CallQuery>().takes::<ClientFrame>().answers::<ServerFrame>(),
    ]
}

/// The router of the table.
pub(super) fn router(app: Arc<App>) -> Router {
    all()
        .into_iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.handler)
        })
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(app.settings.limits.frame_bytes_max))
        .layer(middleware::from_fn_with_state(app.clone(), leave))
        .with_state(app)
}

async fn not_found() -> Failure {
    Code::NotFound.into()
}

async fn method_not_allowed() -> Failure {
    Code::MethodNotAllowed.into()
}

/// Every answer on its way out: problems are counted, and browsers told to trust it as little as possible.
async fn leave(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    const ALWAYS: [(HeaderName, &str); 6] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=()",
        ),
    ];
    const UNLESS_SAID: [(HeaderName, &str); 2] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    // Nobody looks for the header where nothing is traced.
    let asked = app.chat.tracer().and_then(|_| {
        let header = request.headers().get("traceparent")?;
        trace::Context::asked_in(header.to_str().ok()?)
    });
    let mut response = trace::asked_in(asked, next.run(request)).await;
    if let Some(Told(code)) = response.extensions_mut().remove() {
        app.metrics.problem(code);
    }
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in UNLESS_SAID {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

fn get<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    handler: H,
    summary: &'static str,
) -> Route {
    Route::new(Method::GET, path, on(MethodFilter::GET, handler), summary)
}

fn post<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    handler: H,
    summary: &'static str,
) -> Route {
    Route::new(Method::POST, path, on(MethodFilter::POST, handler), summary)
}

fn put<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    handler: H,
    summary: &'static str,
) -> Route {
    Route::new(Method::PUT, path, on(MethodFilter::PUT, handler), summary)
}

fn patch<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    handler: H,
    summary: &'static str,
) -> Route {
    Route::new(
        Method::PATCH,
        path,
        on(MethodFilter::PATCH, handler),
        summary,
    )
}

fn delete<H: Handler<T, Arc<App>>, T: 'static>(
    path: &'static str,
    handler: H,
    summary: &'static str,
) -> Route {
    Route::new(
        Method::DELETE,
        path,
        on(MethodFilter::DELETE, handler),
        summary,
    )
}

impl Route {
    fn new(
        method: Method,
        path: &'static str,
        handler: MethodRouter<Arc<App>>,
        summary: &'static str,
    ) -> Route {
        Route {
            method,
            path,
            summary,
            signed: true,
            query: None,
            body: None,
            answer: None,
            status: 0,
            media_type: "application/json",
            handler,
        }
    }

    fn open(self) -> Route {
        Route {
            signed: false,
            ..self
        }
    }

    fn query<T: JsonSchema>(self) -> Route {
        Route {
            query: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    fn takes<T: JsonSchema>(self) -> Route {
        Route {
            body: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    fn answers<T: JsonSchema>(self) -> Route {
        Route {
            answer: Some(SchemaGenerator::subschema_for::<T>),
            ..self
        }
    }

    fn status(self, status: u16) -> Route {
        Route { status, ..self }
    }

    fn media(self, media_type: &'static str) -> Route {
        Route { media_type, ..self }
    }

    /// The status when it goes well: 204 where there is nothing to say.
    pub(super) fn good_status(&self) -> u16 {
        match self.status {
            0 if self.answer.is_none() && self.media_type == "application/json" => 204,
            0 => 200,
            status => status,
        }
    }
}
