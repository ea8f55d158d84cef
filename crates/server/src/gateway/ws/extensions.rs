//! What the client offers in `Sec-WebSocket-Extensions` (RFC 6455, section 9.1), and what of it is taken: in come
//! headers, out goes the answer.

use axum::http::{HeaderMap, header};

/// A header that is not what the RFC allows: there is no connection then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The answer to an offer of `permessage-deflate`: each message stands for itself, in both directions. (RFC 7692,
/// section 7.1.1: the server may say so whatever was offered.)
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// The same to an offer that names the server's window: the answer must name it too (section 7.1.2.1).
const DEFLATE_AND_WINDOW: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

/// The answer to the first offer that can be taken.
///
/// # Errors
/// [`Malformed`], wherever in the list that is.
pub(super) fn answer(headers: &HeaderMap) -> Result<Option<&'static str>, Malformed> {
    let mut answer = None;
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        let mut scanner = Scanner(value.as_bytes());
        while let Some(offer) = scanner.offer()? {
            answer = answer.or_else(|| offer.answer());
        }
    }
    Ok(answer)
}

/// One extension of the list.
struct Offer<'h> {
    name: &'h [u8],
    parameters: Vec<(&'h [u8], Option<Vec<u8>>)>,
}

impl Offer<'_> {
    /// The answer if it is an offer of `permessage-deflate` that can be kept (RFC 7692, section 7.1).
    fn answer(&self) -> Option<&'static str> {
        if self.name != b"permessage-deflate" {
            return None;
        }
        let mut seen = Vec::new();
        let mut answer = DEFLATE;
        for (name, value) in &self.parameters {
            match (*name, value.as_deref()) {
                (b"server_no_context_takeover" | b"client_no_context_takeover", None)
                | (b"client_max_window_bits", None) => {}
                // Any window of the client can be read.
                (b"client_max_window_bits", Some(bits)) if is_window(bits) => {}
                // Ours cannot be made smaller.
                (b"server_max_window_bits", Some(b"15")) => answer = DEFLATE_AND_WINDOW,
                _ => return None,
            }
            if seen.contains(name) {
                return None;
            }
            seen.push(*name);
        }
        Some(answer)
    }
}

/// From 8 to 15, without leading zeros (section 7.1.2).
fn is_window(bits: &[u8]) -> bool {
    matches!(bits, [b'8' | b'9'] | [b'1', b'0'..=b'5'])
}

/// The rest of a header.
struct Scanner<'h>(&'h [u8]);

impl<'h> Scanner<'h> {
    /// The next extension with its parameters. Between commas there may be nothing (RFC 9110, section 5.6.1.2).
    fn offer(&mut self) -> Result<Option<Offer<'h>>, Malformed> {
        while self.next_is(b',') {}
        if self.0.is_empty() {
            return Ok(None);
        }
        let name = self.token()?;
        let mut parameters = Vec::new();
        while self.next_is(b';') {
            let name = self.token()?;
            let value = match self.next_is(b'=') {
                true => Some(self.value()?),
                false => None,
            };
            parameters.push((name, value));
        }
        if self.0.is_empty() || self.next_is(b',') {
            return Ok(Some(Offer { name, parameters }));
        }
        Err(Malformed)
    }

    /// Takes this byte if it is next, and the white space around it.
    fn next_is(&mut self, byte: u8) -> bool {
        self.0 = self.0.trim_ascii_start();
        match self.0.strip_prefix(&[byte]) {
            Some(rest) => {
                self.0 = rest.trim_ascii_start();
                true
            }
            None => false,
        }
    }

    fn token(&mut self) -> Result<&'h [u8], Malformed> {
        let end = self.0.iter().position(|byte| !is_token(*byte));
        let (token, rest) = self
            .0
            .split_at_checked(end.unwrap_or(self.0.len()))
            .unwrap_or_default();
        self.0 = rest;
        match token {
            [] => Err(Malformed),
            token => Ok(token),
        }
    }

    /// A token, or one in quotes.
    fn value(&mut self) -> Result<Vec<u8>, Malformed> {
        let Some(rest) = self.0.strip_prefix(b"\"") else {
            return self.token().map(<[u8]>::to_vec);
        };
        let mut value = Vec::new();
        let mut bytes = rest.iter();
        loop {
            match bytes.next() {
                Some(b'"') => break,
                Some(b'\\') => value.extend(bytes.next()),
                Some(byte) => value.push(*byte),
                None => return Err(Malformed),
            }
        }
        self.0 = bytes.as_slice();
        if value.is_empty() || !value.iter().all(|byte| is_token(*byte)) {
            return Err(Malformed);
        }
        Ok(value)
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn answer_to(values: &[&str]) -> Result<Option<&'static str>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                header::SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        answer(&headers)
    }

    #[test]
    fn offers_are_taken_passed_over_or_refused() {
        const TAKEN: Result<Option<&str>, Malformed> = Ok(Some(DEFLATE));
        const WINDOW: Result<Option<&str>, Malformed> = Ok(Some(DEFLATE_AND_WINDOW));
        const PASSED: Result<Option<&str>, Malformed> = Ok(None);
        const REFUSED: Result<Option<&str>, Malformed> = Err(Malformed);
        for (values, expected) in [
            (&[][..], PASSED),
            (&[""], PASSED),
            (&["permessage-deflate"], TAKEN),
            // As browsers offer it.
            (&["permessage-deflate; client_max_window_bits"], TAKEN),
            (
                &["permessage-deflate;client_max_window_bits = \"10\""],
                TAKEN,
            ),
            (
                &["permessage-deflate; client_max_window_bits=\"1\\0\""],
                TAKEN,
            ),
            (
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                TAKEN,
            ),
            (&["permessage-deflate; server_max_window_bits=15"], WINDOW),
            // What cannot be kept.
            (&["permessage-deflate; server_max_window_bits=14"], PASSED),
            (&["permessage-deflate; server_max_window_bits"], PASSED),
            (&["permessage-deflate; server_max_window_bits=015"], PASSED),
            (&["permessage-deflate; server_max_window_bits=16"], PASSED),
            (&["permessage-deflate; client_max_window_bits=7"], PASSED),
            (&["permessage-deflate; client_max_window_bits=16"], PASSED),
            (
                &["permessage-deflate; server_no_context_takeover=1"],
                PASSED,
            ),
            (&["permessage-deflate; dictionary"], PASSED),
            (
                &["permessage-deflate; client_max_window_bits; client_max_window_bits=9"],
                PASSED,
            ),
            (&["x-webkit-deflate-frame, permessage-bzip2"], PASSED),
            // Several: the client's order decides.
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
                TAKEN,
            ),
            (
                &["permessage-deflate, permessage-deflate; server_max_window_bits=15"],
                TAKEN,
            ),
            (
                &[
                    "permessage-deflate; server_max_window_bits=10",
                    "foo; bar=\"b\\az\", , permessage-deflate",
                ],
                TAKEN,
            ),
            // What is no list of extensions.
            (&["permessage-deflate;"], REFUSED),
            (&["permessage-deflate client_max_window_bits"], REFUSED),
            (&["permessage-deflate; client_max_window_bits="], REFUSED),
            (
                &["permessage-deflate; client_max_window_bits=\"10"],
                REFUSED,
            ),
            (
                &["permessage-deflate; client_max_window_bits=\"1 0\""],
                REFUSED,
            ),
            (
                &["permessage-deflate; client_max_window_bits=\"\""],
                REFUSED,
            ),
            (&["permessage-deflate", "=x"], REFUSED),
            (&["permessage-deflate, é"], REFUSED),
        ] {
            assert_eq!(answer_to(values), expected, "{values:?}");
        }
    }
}
