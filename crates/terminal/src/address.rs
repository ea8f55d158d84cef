//! Where a server is.

use std::fmt;
use std::str::FromStr;

/// A server's address: `https://chat.example.org`, `http://localhost:8080`, or only the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    host: String,
    port: u16,
    /// What stands before `/v1`; empty or `/something`.
    path: String,
}

/// The text was not the address of a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a server: {0} (it looks like https://chat.example.org)")]
pub struct InvalidAddress(String);

impl Address {
    /// Whether the connection is encrypted.
    pub(crate) fn tls(&self) -> bool {
        self.tls
    }

    /// The host as it is looked up: an IPv6 address without its brackets.
    pub(crate) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as in the `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The path of an address of the server: `/v1/…`, below the server's own path.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.path)
    }

    /// The URL of the WebSocket.
    pub(crate) fn websocket_url(&self) -> String {
        let scheme = if self.tls { "wss" } else { "ws" };
        format!(
            "{scheme}://{}{}",
            self.authority(),
            self.path("/v1/connect")
        )
    }

    /// A name for a folder: another one for each server.
    pub(crate) fn folder(&self) -> String {
        let mut name = format!("{}_{}{}", self.host, self.port, self.path);
        // What is not safe in a file's name becomes a dash; brackets and colons are all that a host may hold.
        name = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        if self.tls {
            name
        } else {
            format!("{name}_plain")
        }
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Address, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, Some(port.parse().map_err(|_| invalid())?))
            }
            _ => (authority, None),
        };
        let host_is_valid = !host.is_empty()
            && host.chars().all(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']')
            })
            && host.contains(':') == (host.starts_with('[') && host.ends_with(']'));
        let path = path.trim_end_matches('/');
        let path_is_valid = path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '~'));
        if !host_is_valid || !path_is_valid {
            return Err(invalid());
        }
        let host = host.to_ascii_lowercase();
        let tls = match scheme.as_deref() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            Some(_) => return Err(invalid()),
            // On this machine nobody listens in between.
            None => !matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]"),
        };
        Ok(Address {
            tls,
            host,
            port: port.unwrap_or(default_port(tls)),
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, url, websocket) in [
            (
                "https://Chat.example.org/",
                "https://chat.example.org",
                "wss://chat.example.org/v1/connect",
            ),
            (
                "http://localhost:8080",
                "http://localhost:8080",
                "ws://localhost:8080/v1/connect",
            ),
            (
                "localhost:8080",
                "http://localhost:8080",
                "ws://localhost:8080/v1/connect",
            ),
            (
                "chat.example.org",
                "https://chat.example.org",
                "wss://chat.example.org/v1/connect",
            ),
            (
                "wss://a.b:1/c/",
                "https://a.b:1/c",
                "wss://a.b:1/c/v1/connect",
            ),
            ("http://[::1]:80", "http://[::1]", "ws://[::1]/v1/connect"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(
                (address.to_string(), address.websocket_url()),
                (url.into(), websocket.into()),
                "{text}"
            );
        }
        for text in [
            "",
            "http://",
            "ftp://a",
            "http://a:b",
            "http://a b",
            "http://::1",
            "http://a/\u{7}",
            "http://a?b",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
