//! Asks a server this and that from outside, the way a client comes to it: for `tidings doctor`, and to tell a
//! collector of traces what there is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tidings_protocol::Encoding;

use crate::address::Address;
use crate::driver::http::Http;
use crate::driver::stream::{Network, TlsError};
use crate::driver::websocket::{self, OpenError};

/// A server that is asked.
pub struct Probe {
    network: Arc<Network>,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe")
            .field("address", &self.network.address)
            .finish_non_exhaustive()
    }
}

impl Probe {
    /// Of the server at an address.
    ///
    /// # Errors
    /// When the address wants TLS and this machine cannot do it.
    pub fn new(address: Address) -> Result<Probe, TlsError> {
        let network = Arc::new(Network::new(address)?);
        Ok(Probe { network })
    }

    /// `GET` of a path, with a session token if there is one.
    ///
    /// # Errors
    /// Says in words why there is no answer.
    pub async fn get(
        &self,
        path: &str,
        token: Option<&str>,
        within: Duration,
    ) -> Result<Answer, String> {
        let mut http = Http::new(self.network.clone(), token.map(str::to_owned));
        let asked = http.request(Method::GET, path, Vec::new(), within).await;
        let answer = asked.map_err(|error| error.to_string())?;
        Ok(Answer {
            status: answer.status.as_u16(),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    /// `POST` of a JSON value.
    ///
    /// # Errors
    /// Says in words why there is no answer.
    pub async fn post(
        &self,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Answer, String> {
        let mut http = Http::new(self.network.clone(), None);
        let asked = http.request(Method::POST, path, body, within).await;
        let answer = asked.map_err(|error| error.to_string())?;
        Ok(Answer {
            status: answer.status.as_u16(),
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }

    /// Opens a WebSocket and closes it.
    ///
    /// # Errors
    /// Says in words why there is none.
    pub async fn websocket(&self) -> Result<(), String> {
        match websocket::open(&self.network, Encoding::Json).await {
            Ok(mut socket) => {
                // It is there, which is all that is asked.
                let _ = socket.close(None).await;
                Ok(())
            }
            Err(OpenError::Connect(error)) => Err(error.to_string()),
            Err(OpenError::Refused(why)) => Err(why),
            Err(OpenError::Unavailable) => Err("the server takes no sessions now".to_owned()),
        }
    }

    /// Opens a stream of events, and waits for the first bytes of it: something on the way may keep them back.
    ///
    /// # Errors
    /// Says in words why nothing came.
    pub async fn stream(&self, token: &str, within: Duration) -> Result<(), String> {
        let nothing = format!("no event in {} s", within.as_secs());
        tokio::time::timeout(within, self.first_bytes(token))
            .await
            .unwrap_or(Err(nothing))
    }

    async fn first_bytes(&self, token: &str) -> Result<(), String> {
        let address = &self.network.address;
        let stream = self.network.connect().await;
        let stream = stream.map_err(|error| error.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        // Ends with the sender.
        tokio::spawn(connection);
        let request = Request::builder()
            .uri(address.path("/v1/events/stream"))
            .header(header::HOST, address.authority())
            .header(header::ACCEPT, "text/event-stream")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("it was answered {}", response.status()));
        }
        match response.into_body().frame().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the stream ended at once".to_owned()),
        }
    }
}
