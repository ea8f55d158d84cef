//! HTTP/1.1 on accepted connections (RFC 9112).
//!
//! In: connections of the listener. Next: each request goes to the router. A connection that became a WebSocket is
//! nobody's here any more.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Weak};
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

/// After draining began it is looked so often whether anything is still worked on.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Serves connections until `draining` is over, then until what was asked is answered: who has asked only a part of
/// something, or is slow to take its answer, has a moment. `request_within`: a connection on which no request, or only
/// part of its head, comes for so long is closed.
pub(crate) async fn serve(
    mut listener: BoundedListener,
    router: Router,
    request_within: Duration,
    draining: impl Future<Output = ()>,
) {
    // Every connection holds a receiver.
    let (drain, drained) = watch::channel(());
    // Every request that is worked on holds it, too.
    let running = Arc::new(());
    let mut draining = pin!(draining);
    loop {
        tokio::select! {
            (connection, address) = listener.accept() => {
                let router = router.clone();
                let drained = drained.clone();
                let running = Arc::downgrade(&running);
                tokio::spawn(serve_one(
                    (connection, address),
                    router,
                    request_within,
                    running,
                    drained,
                ));
            }
            () = &mut draining => break,
        }
    }
    drop((listener, drained));
    drain.send_replace(());
    while tokio::time::timeout(LOOK_EVERY, drain.closed())
        .await
        .is_err()
    {
        if Arc::strong_count(&running) == 1 {
            break;
        }
    }
}

async fn serve_one(
    (connection, address): (Counted, SocketAddr),
    router: Router,
    request_within: Duration,
    running: Weak<()>,
    mut drained: watch::Receiver<()>,
) {
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        let running = running.upgrade();
        // A router is always ready.
        let answering = router.clone().call(request.map(Body::new));
        async move {
            let _running = running;
            answering.await
        }
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
