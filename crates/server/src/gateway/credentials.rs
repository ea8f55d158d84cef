//! Who asks: the session token from the `Authorization` header, or from the cookie if the page is ours.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, header};
use tidings_protocol::{Code, Problem};

use crate::config::Settings;
use crate::users::cookie;

/// The token that a request brings, if any.
///
/// # Errors
/// `origin_refused` when there is only a cookie and another site's page may have sent it.
pub(super) fn token_of<'h>(
    settings: &Settings,
    headers: &'h HeaderMap,
    method: &Method,
) -> Result<Option<&'h str>, Problem> {
    if let Some(token) = bearer(headers) {
        return Ok(Some(token));
    }
    let cookie = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(cookie::token);
    match cookie {
        Some(_) if !is_own_page(settings, headers, method) => {
            Err(Problem::new(Code::OriginRefused))
        }
        found => Ok(found),
    }
}

/// Refuses to hand a cookie to another site's page: it would log its visitor in as whom it likes.
///
/// # Errors
/// `origin_refused` when another site's page may have sent the request.
pub(super) fn check_own_page(
    settings: &Settings,
    headers: &HeaderMap,
    method: &Method,
) -> Result<(), Problem> {
    if is_own_page(settings, headers, method) {
        Ok(())
    } else {
        Err(Problem::new(Code::OriginRefused))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim())
        .filter(|token| !token.is_empty())
}

/// Whether a request with a cookie comes from a page of this site. A WebSocket handshake counts as unsafe:
/// browsers let any site make one. What tells neither origin nor site is no browser of today, and has no
/// need of cookies: refused where it could do harm.
fn is_own_page(settings: &Settings, headers: &HeaderMap, method: &Method) -> bool {
    if let Some(origin) = headers.get(header::ORIGIN) {
        return origin
            .to_str()
            .is_ok_and(|origin| is_own_origin(settings, headers, origin));
    }
    let is_unsafe =
        !matches!(*method, Method::GET | Method::HEAD) || headers.contains_key(header::UPGRADE);
    match headers.get("sec-fetch-site").map(|site| site.as_bytes()) {
        Some(site) => site == b"same-origin" || (site == b"none" && !is_unsafe),
        None => !is_unsafe,
    }
}

fn is_own_origin(settings: &Settings, headers: &HeaderMap, origin: &str) -> bool {
    let public = settings.server.public_url.trim_end_matches('/');
    if !public.is_empty() {
        return origin.eq_ignore_ascii_case(public);
    }
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    match (authority, host(headers)) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// The host (and port) that was asked for.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// Whether cookies are to be sent over HTTPS only: always, but for plain HTTP to this very machine.
pub(super) fn cookies_are_secure(settings: &Settings, headers: &HeaderMap) -> bool {
    if settings.server.public_url.starts_with("https://") {
        return true;
    }
    let host = host(headers).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    !(is_loopback || name.eq_ignore_ascii_case("localhost"))
}

/// The address that asks: the peer's, or the one that the outermost of our own proxies was asked from.
pub(super) fn address_of(settings: &Settings, headers: &HeaderMap, peer: SocketAddr) -> IpAddr {
    let proxies = settings.server.proxies_in_front;
    if proxies == 0 {
        return peer.ip();
    }
    // Each proxy appends: what is further left than our own wrote is the client's invention.
    headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect::<Vec<_>>()
        .into_iter()
        .nth_back(proxies - 1)
        .and_then(|address| address.trim().parse().ok())
        .unwrap_or_else(|| peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn with_cookie(method: Method, more: &[(&'static str, &str)]) -> Result<bool, Code> {
        let mut headers = headers(more);
        headers.insert("cookie", "tidings_session=abc".parse().unwrap());
        headers.insert("host", "chat.example:8080".parse().unwrap());
        token_of(&Settings::default(), &headers, &method)
            .map(|token| token == Some("abc"))
            .map_err(|problem| problem.code)
    }

    #[test]
    fn a_cookie_is_taken_from_our_own_pages_only() {
        let own = ("origin", "http://chat.example:8080");
        let other = ("origin", "http://evil.example");
        assert_eq!(with_cookie(Method::POST, &[own]), Ok(true));
        assert_eq!(
            with_cookie(Method::POST, &[other]),
            Err(Code::OriginRefused)
        );
        assert_eq!(with_cookie(Method::GET, &[other]), Err(Code::OriginRefused));
        assert_eq!(
            with_cookie(Method::POST, &[("origin", "null")]),
            Err(Code::OriginRefused)
        );
        assert_eq!(with_cookie(Method::POST, &[]), Err(Code::OriginRefused));
        assert_eq!(with_cookie(Method::GET, &[]), Ok(true));
        let site = |site| ("sec-fetch-site", site);
        assert_eq!(with_cookie(Method::POST, &[site("same-origin")]), Ok(true));
        for site in ["cross-site", "same-site"].map(site) {
            assert_eq!(with_cookie(Method::GET, &[site]), Err(Code::OriginRefused));
        }
        assert_eq!(
            with_cookie(Method::GET, &[("upgrade", "websocket")]),
            Err(Code::OriginRefused)
        );
        assert_eq!(
            with_cookie(Method::GET, &[("upgrade", "websocket"), own]),
            Ok(true)
        );
    }

    #[test]
    fn a_token_in_the_header_needs_no_origin() {
        let headers = headers(&[
            ("authorization", "bearer xyz"),
            ("origin", "http://other.example"),
        ]);
        let token = token_of(&Settings::default(), &headers, &Method::POST);
        assert_eq!(token.unwrap(), Some("xyz"));
    }

    #[test]
    fn the_public_address_is_the_origin_if_it_is_set() {
        let mut settings = Settings::default();
        settings.server.public_url = "https://chat.example.org/".to_owned();
        let none = HeaderMap::new();
        assert!(is_own_origin(&settings, &none, "https://chat.example.org"));
        assert!(!is_own_origin(&settings, &none, "http://chat.example.org"));
        assert!(cookies_are_secure(&settings, &none));
    }

    #[test]
    fn cookies_are_secure_but_for_this_machine() {
        let settings = Settings::default();
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
            assert!(!cookies_are_secure(&settings, &headers(&[("host", host)])));
        }
        for host in ["chat.example", "10.0.0.1:80", "localhost.evil.example"] {
            assert!(cookies_are_secure(&settings, &headers(&[("host", host)])));
        }
        assert!(cookies_are_secure(&settings, &HeaderMap::new()));
    }

    #[test]
    fn forwarded_addresses_are_believed_as_far_as_our_proxies_wrote_them() {
        let mut settings = Settings::default();
        let peer: SocketAddr = "10.0.0.9:1".parse().unwrap();
        let headers = headers(&[
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-forwarded-for", "3.3.3.3"),
        ]);
        let mut address = |proxies| {
            settings.server.proxies_in_front = proxies;
            address_of(&settings, &headers, peer).to_string()
        };
        assert_eq!(address(0), "10.0.0.9");
        assert_eq!(address(1), "3.3.3.3");
        assert_eq!(address(2), "2.2.2.2");
        assert_eq!(address(9), "10.0.0.9");
    }
}
