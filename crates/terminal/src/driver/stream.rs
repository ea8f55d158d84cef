//! One connection to the server, plain or encrypted: what WebSocket and HTTP both run over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::address::Address;

/// How long opening a connection may take, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A server, and how to reach it.
pub(crate) struct Network {
    pub(crate) address: Address,
    tls: Option<TlsConnector>,
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot reach {0}: {1}")]
    Io(String, io::Error),
    #[error("{0} does not answer")]
    TimedOut(String),
    #[error("{0} cannot be trusted: {1}")]
    Tls(String, io::Error),
}

/// TLS cannot be used on this machine.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There are no certificates to trust.
    #[error(
        "no trusted certificates were found on this machine (install ca-certificates, or set SSL_CERT_FILE)"
    )]
    NoRoots,
    /// The TLS library refuses.
    #[error("TLS cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Network {
    pub(crate) fn new(address: Address) -> Result<Network, TlsError> {
        let tls = if address.tls() {
            Some(TlsConnector::from(Arc::new(tls_config()?)))
        } else {
            None
        };
        Ok(Network { address, tls })
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Io>, ConnectError> {
        let name = || self.address.authority();
        let connecting = async {
            let tcp = TcpStream::connect((self.address.host(), self.address.port()));
            let tcp = tcp.await.map_err(|error| ConnectError::Io(name(), error))?;
            // Frames are small and somebody waits for them. If it cannot be set they are merely later.
            let _ = tcp.set_nodelay(true);
            let Some(tls) = &self.tls else {
                return Ok(Box::new(tcp) as Box<dyn Io>);
            };
            let server = ServerName::try_from(self.address.host().to_owned())
                .map_err(|error| ConnectError::Tls(name(), io::Error::other(error)))?;
            let stream = tls
                .connect(server, tcp)
                .await
                .map_err(|error| ConnectError::Tls(name(), error))?;
            Ok(Box::new(stream) as Box<dyn Io>)
        };
        tokio::time::timeout(CONNECT_WITHIN, connecting)
            .await
            .map_err(|_| ConnectError::TimedOut(name()))?
    }
}

/// Trusts what the system trusts.
fn tls_config() -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
