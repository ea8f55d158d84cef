//! To which trace something belongs, and how that is written (W3C Trace Context, level 1).

/// A trace and a span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: [u8; 8],
}

impl Context {
    /// A span of a trace.
    #[must_use]
    pub fn new(trace: [u8; 16], span: [u8; 8]) -> Context {
        Context { trace, span }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self, span: [u8; 8]) -> Context {
        Context { span, ..self }
    }

    /// What a `traceparent` header says, if it asks for a trace: `00-TRACE-SPAN-01`.
    #[must_use]
    pub fn asked_in(header: &str) -> Option<Context> {
        let mut parts = header.trim().split('-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        let flags = parts.next()?;
        // Later versions may say more behind it; ff is none, and 00 says no more.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        bytes::<1>(version).filter(|_| is_known)?;
        let is_sampled = bytes::<1>(flags)?[0] & 1 == 1;
        let (trace, span) = (bytes(trace)?, bytes(span)?);
        let is_valid = trace != [0; 16] && span != [0; 8];
        (is_sampled && is_valid).then_some(Context { trace, span })
    }
}

/// Bytes from exactly so many lower-case hexadecimal digits.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.bytes().all(is_hex) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// As lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_that_asks_is_read() {
        let context = Context::asked_in(ASKED).unwrap();
        assert_eq!(hex(&context.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex(&context.span), "00f067aa0ba902b7");
        let later = format!("cc{}-what-comes", &ASKED[2..]);
        assert_eq!(Context::asked_in(&later), Some(context));
    }

    #[test]
    fn what_does_not_ask_or_is_no_such_header_is_left_alone() {
        for header in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-ébf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::asked_in(header), None, "{header}");
        }
    }
}
