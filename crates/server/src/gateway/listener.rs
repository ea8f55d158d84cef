//! Accepting connections: so many in all and so many of one address; one more is closed at once. A
//! connection counts until it is closed, also when it has become a WebSocket.

use std::collections::HashMap;
use std::io::{IoSlice, Result};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// How many connections may be open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) connections_max: usize,
    /// Of one address. `None` behind a proxy, from which all connections come.
    pub(crate) address_connections_max: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct BoundedListener {
    listener: TcpListener,
    bounds: Bounds,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    address: IpAddr,
    open: Arc<Mutex<Open>>,
}

impl BoundedListener {
    pub(crate) fn new(listener: TcpListener, bounds: Bounds) -> BoundedListener {
        BoundedListener {
            listener,
            bounds,
            open: Arc::default(),
        }
    }

    /// The connection, unless there are too many.
    fn admit(&self, stream: TcpStream, address: IpAddr) -> Option<Counted> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        let address_max = self.bounds.address_connections_max;
        if open.all >= self.bounds.connections_max
            || address_max.is_some_and(|max| of_address >= max)
        {
            return None;
        }
        open.all += 1;
        open.by_address.insert(address, of_address + 1);
        drop(open);
        Some(Counted {
            stream,
            address,
            open: self.open.clone(),
        })
    }
}

impl Listener for BoundedListener {
    type Io = Counted;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Counted, SocketAddr) {
        loop {
            // Waits by itself when the system is out of file descriptors.
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Frames are small and wait for nobody.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
            match self.admit(stream, address.ip()) {
                Some(connection) => return (connection, address),
                None => tracing::debug!(%address, "too many connections"),
            }
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Counted {
    /// Writes what can be written without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        self.stream.try_write(bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn one_too_many_is_closed_and_a_place_comes_free_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds {
            connections_max: 10,
            address_connections_max: Some(2),
        };
        let mut listener = BoundedListener::new(listener, bounds);
        let connect = || TcpStream::connect(address);
        let mut clients = [
            connect().await.unwrap(),
            connect().await.unwrap(),
            connect().await.unwrap(),
        ];
        let first = listener.accept().await;
        let _second = listener.accept().await;
        let accepting = tokio::spawn(async move { (listener.accept().await, listener) });
        assert_eq!(clients[2].read(&mut [0]).await.unwrap(), 0, "closed");
        drop(first);
        let _fourth = connect().await.unwrap();
        let (_accepted, listener) = accepting.await.unwrap();
        assert_eq!(listener.open.lock().unwrap().all, 2);
    }
}
