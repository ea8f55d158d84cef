//! HTTP/1.1 on accepted connections (RFC 9112).
//!
//! In: connections of the listener. Next: each request goes to the router. A connection that became a WebSocket is
//! nobody's here any more.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tower_service::Service;

use super::listener::{BoundedListener, Counted};

/// Serves connections until `draining` is over, then until those that are open have answered what they were asked.
/// `request_within`: a connection on which no request, or only part of its head, comes for so long is closed.
pub(crate) async fn serve(
    mut listener: BoundedListener,
    router: Router,
    request_within: Duration,
    draining: impl Future<Output = ()>,
) {
    // Every connection holds a receiver.
    let (drain, drained) = watch::channel(());
    let mut draining = pin!(draining);
    loop {
        tokio::select! {
            (connection, address) = listener.accept() => {
                let router = router.clone();
                let drained = drained.clone();
                tokio::spawn(serve_one(connection, address, router, request_within, drained));
            }
            () = &mut draining => break,
        }
    }
    drop((listener, drained));
    drain.send_replace(());
    drain.closed().await;
}

async fn serve_one(
    connection: Counted,
    address: SocketAddr,
    router: Router,
    request_within: Duration,
    mut drained: watch::Receiver<()>,
) {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        let mut router = router.clone();
        async move { answer(&mut router, request.map(Body::new)).await }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(request_within)
        .serve_connection(TokioIo::new(connection), answer)
        .with_upgrades();
    let mut serving = pin!(serving);
    let served = tokio::select! {
        served = &mut serving => served,
        _ = drained.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, %address, "a connection ended");
    }
}

/// A router is always ready.
fn answer(
    router: &mut Router,
    request: Request<Body>,
) -> impl Future<Output = Result<axum::response::Response, Infallible>> + use<> {
    router.call(request)
}
