//! The session cookie of browsers: the token, out of reach of scripts and other sites (RFC 6265, with
//! `SameSite` as in its successor's draft). Whether a cookie may be used at all (the page's origin) is for
//! the gateway to check.

/// The cookie's name. Over HTTPS with the prefix by which browsers promise that this host set it.
const NAME: &str = "tidings_session";
const NAME_SECURE: &str = "__Host-tidings_session";

/// A `Set-Cookie` header that hands over a token. `secure`: the page came over HTTPS.
#[must_use]
pub fn set(token: &str, secure: bool, days: u64) -> String {
    let (name, flag) = name(secure);
    let seconds = days.saturating_mul(24 * 60 * 60);
    format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flag}")
}

/// A `Set-Cookie` header that removes it.
#[must_use]
pub fn clear(secure: bool) -> String {
    let (name, flag) = name(secure);
    format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict{flag}")
}

/// The token in a `Cookie` header.
#[must_use]
pub fn token(header: &str) -> Option<&str> {
    let value = |wanted: &str| {
        header
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, value)| *name == wanted && !value.is_empty())
            .map(|(_, value)| value)
    };
    value(NAME_SECURE).or_else(|| value(NAME))
}

fn name(secure: bool) -> (&'static str, &'static str) {
    if secure {
        (NAME_SECURE, "; Secure")
    } else {
        (NAME, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_found() {
        assert_eq!(
            set("abc", true, 1),
            "__Host-tidings_session=abc; Path=/; Max-Age=86400; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            clear(false),
            "tidings_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
        );
        assert_eq!(token("a=b; tidings_session=abc; c"), Some("abc"));
        assert_eq!(token("__Host-tidings_session=abc"), Some("abc"));
        assert_eq!(token("tidings_session=; x=y"), None);
        assert_eq!(token("my_tidings_session=abc"), None);
        assert_eq!(token(""), None);
    }
}
