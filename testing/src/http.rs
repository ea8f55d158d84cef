//! As much of an HTTP/1.1 client (RFC 9112) as a script needs, written here so that the tests hold the
//! server against the standard and not against its own library. One connection, kept open.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_protocol::{Code, Problem};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A client of one server.
#[derive(Debug)]
pub struct Http {
    port: u16,
    token: Option<String>,
    connection: Option<BufReader<TcpStream>>,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Http {
    /// A client of the server at this port of the loopback address.
    #[must_use]
    pub fn new(port: u16) -> Http {
        Http {
            port,
            token: None,
            connection: None,
        }
    }

    /// The same with a session token, which goes into the `Authorization` header.
    #[must_use]
    pub fn with_token(port: u16, token: &str) -> Http {
        Http {
            token: Some(token.to_owned()),
            ..Http::new(port)
        }
    }

    /// Sends a request once and reads its answer.
    ///
    /// # Errors
    /// When the connection fails before the whole answer came: whether the server acted is then unknown.
    pub async fn try_request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-length: {}\r\n",
            self.port,
            body.len()
        );
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        let is_said = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !body.is_empty() && !is_said {
            head.push_str("content-type: application/json\r\n");
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        connection.get_mut().write_all(&request).await?;
        let (response, keeps) = read_response(&mut connection).await?;
        if keeps {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Sends a request; a kept connection that the server had closed meanwhile is made anew once.
    pub async fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Response {
        let kept = self.connection.is_some();
        let within = Duration::from_secs(60);
        for again in [kept, false] {
            match tokio::time::timeout(within, self.try_request(method, path, &[], body)).await {
                Ok(Ok(response)) => return response,
                Ok(Err(_)) if again => {}
                Ok(Err(error)) => panic!("{method} {path}: {error}"),
                Err(_) => panic!("{method} {path}: no answer in {within:?}"),
            }
        }
        panic!("{method} {path}: the connection fails")
    }

    /// Sends a JSON value (or nothing) and reads one.
    ///
    /// # Errors
    /// The problem that the server told.
    pub async fn json<T: DeserializeOwned>(
        &mut self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).unwrap();
        self.request(method, path, &body).await.json()
    }

    /// `GET` of a JSON value.
    ///
    /// # Errors
    /// The problem that the server told.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Problem> {
        self.request("GET", path, b"").await.json()
    }

    /// A request that is answered by nothing.
    ///
    /// # Errors
    /// The problem that the server told.
    pub async fn done(
        &mut self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), Problem> {
        let body = serde_json::to_vec(body).unwrap();
        let response = self.request(method, path, &body).await;
        response.problem().map_or(Ok(()), Err)
    }
}

impl Response {
    /// The first header with this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The problem, if it is one. Checks that problems are as RFC 9457 has them.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        if self.status < 400 {
            return None;
        }
        let media_type = self.header("content-type").unwrap_or_default();
        if media_type != "application/problem+json" {
            return None;
        }
        let problem: Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            problem.status, self.status,
            "a problem's status is the answer's"
        );
        assert_ne!(problem.code, Code::Unknown, "{}", self.text());
        Some(problem)
    }

    /// The body as a JSON value.
    ///
    /// # Errors
    /// The problem that the server told.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        match self.problem() {
            Some(problem) => Err(problem),
            None if self.status >= 300 => panic!("{} {}", self.status, self.text()),
            None => Ok(serde_json::from_slice(&self.body)
                .unwrap_or_else(|error| panic!("{error}: {}", self.text()))),
        }
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

async fn read_line(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    connection.read_until(b'\n', &mut line).await?;
    let line = line
        .strip_suffix(b"\r\n")
        .ok_or_else(|| broken("the answer ends early"))?;
    String::from_utf8(line.to_vec()).map_err(|_| broken("a header is not UTF-8"))
}

/// The answer, and whether the connection can be used again.
async fn read_response(connection: &mut BufReader<TcpStream>) -> io::Result<(Response, bool)> {
    let first = read_line(connection).await?;
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| broken("not an answer"))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(connection).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| broken("no header"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut response = Response {
        status,
        headers,
        body: Vec::new(),
    };
    if status == 204 {
        return Ok((response, true));
    }
    if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().map_err(|_| broken("content-length"))?;
        response.body = vec![0; length];
        connection.read_exact(&mut response.body).await?;
    } else if response.header("transfer-encoding") == Some("chunked") {
        loop {
            let size = read_line(connection).await?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| broken("a chunk's size"))?;
            let start = response.body.len();
            response.body.resize(start + size + 2, 0);
            connection.read_exact(&mut response.body[start..]).await?;
            response.body.truncate(start + size);
            if size == 0 {
                break;
            }
        }
    } else {
        return Err(broken("an answer without a length"));
    }
    let keeps = response.header("connection") != Some("close");
    Ok((response, keeps))
}
