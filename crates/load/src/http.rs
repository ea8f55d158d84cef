//! Just enough HTTP/1.1 to sign accounts up: JSON there and back over one connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The longest answer that is taken.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A kept connection.
#[derive(Debug)]
pub struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(address: SocketAddr) -> io::Result<Http> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Http {
            address,
            stream: BufReader::new(stream),
        })
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// The system's, or that the answer is not HTTP with a length.
    pub fn post<T: Serialize>(&mut self, path: &str, value: &T) -> io::Result<Answer> {
        let body = serde_json::to_vec(value)?;
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        self.stream.get_mut().write_all(&request)?;
        read_answer(&mut self.stream)
    }
}

fn read_answer(stream: &mut impl BufRead) -> io::Result<Answer> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| wrong("the answer is not HTTP"))?;
    let mut length = None;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(wrong("the answer ends in its head"));
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let length = length
        .filter(|length| *length <= ANSWER_BYTES_MAX)
        .ok_or_else(|| wrong("the answer has no length, or too great a one"))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_one_after_the_other() {
        let mut bytes =
            &b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nA: b\r\n\r\n{}HTTP/1.1 429 Too\r\nContent-Length: 0\r\n\r\n"[..];
        let first = read_answer(&mut bytes).unwrap();
        assert_eq!((first.status, first.body.as_slice()), (201, &b"{}"[..]));
        assert_eq!(read_answer(&mut bytes).unwrap().status, 429);
        assert!(read_answer(&mut bytes).is_err());
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        for text in [
            "",
            "SSH-2.0",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b",
        ] {
            assert!(read_answer(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
