//! The page's files, as they are in the binary, and what a browser is told of them: nothing from
//! elsewhere, no script that is not this one, nobody frames it.

/// `Content-Security-Policy` of all of them.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page: its content type and its text.
pub fn file(path: &str) -> Option<(&'static str, &'static str)> {
    match path {
        "/" => Some(("text/html; charset=utf-8", include_str!("page.html"))),
        "/status.css" => Some(("text/css; charset=utf-8", include_str!("page.css"))),
        "/status.js" => Some(("text/javascript; charset=utf-8", include_str!("page.js"))),
        _ => None,
    }
}
