//! The report over HTTP, on loopback only: the latest page, the files it links to, and the state of
//! the run as JSON.
//!
//! A page elsewhere must not read it through the user's browser: every request names a host of this
//! machine (against DNS rebinding), and one with an `Origin` names this very server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};

use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, StatusCode};

use crate::store::{Store, Tree};

/// What is served now.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// The page; none until there is something to report.
    pub page: Option<Arc<str>>,
    /// The files that the page links to.
    pub files: Arc<Tree>,
    /// `live.json`.
    pub state: Value,
}

/// A server on 127.0.0.1.
pub struct Server {
    http: tiny_http::Server,
    address: SocketAddr,
    content: Arc<RwLock<Content>>,
    store: Store,
}

type Answer = Response<io::Cursor<Vec<u8>>>;

impl Server {
    /// Listens; of port 0 the system chooses one.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn bind(port: u16, store: &Store) -> io::Result<Self> {
        let http = tiny_http::Server::http((Ipv4Addr::LOCALHOST, port))
            .map_err(|e| e.downcast::<io::Error>().map_or_else(io::Error::other, |e| *e))?;
        let address = http.server_addr().to_ip().ok_or_else(|| io::Error::other("no address"))?;
        let state = json!({ "version": 0, "tasks": 0, "done": 0, "running": {}, "failed": {} });
        let content = Arc::new(RwLock::new(Content { state, ..Content::default() }));
        Ok(Self { http, address, content, store: store.clone() })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves; whoever holds this may replace it.
    #[must_use]
    pub fn content(&self) -> Arc<RwLock<Content>> {
        Arc::clone(&self.content)
    }

    /// Answers requests until the process ends.
    pub fn serve(&self) {
        for request in self.http.incoming_requests() {
            let answer = self.answer(&request);
            // Who asked may have gone.
            let _ = request.respond(answer);
        }
    }

    fn answer(&self, request: &Request) -> Answer {
        let header = |name: &'static str| {
            let found = request.headers().iter().find(|h| h.field.equiv(name));
            found.map(|h| h.value.as_str())
        };
        if let Some(refusal) = refuses(self.address, header("Host"), header("Origin")) {
            return plain(403, refusal);
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return plain(405, "only GET is answered here\n");
        }
        let path = request.url().split(['?', '#']).next().unwrap_or_default();
        // A writer that panicked left what was there before.
        let content =
            self.content.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        match path {
            "/" | "/index.html" => {
                let page = content.page.as_deref().unwrap_or(WAITING);
                typed(200, page.as_bytes().to_vec(), "text/html; charset=utf-8")
            }
            "/live.json" => typed(200, content.state.to_string().into_bytes(), "application/json"),
            other => match content.files.files.get(other.trim_start_matches('/')) {
                Some(entry) => match self.store.read_out(entry) {
                    Ok(bytes) => typed(200, bytes, kind(other)),
                    Err(_) => plain(404, "that file is gone from the cache\n"),
                },
                None => plain(404, "there is no such file\n"),
            },
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a request is refused, if it is.
fn refuses(own: SocketAddr, host: Option<&str>, origin: Option<&str>) -> Option<&'static str> {
    let port = own.port();
    let names = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if !host.is_some_and(|h| names.iter().any(|n| n.eq_ignore_ascii_case(h))) {
        return Some("this server answers to 127.0.0.1 and localhost only\n");
    }
    let own = |o: &str| {
        o.strip_prefix("http://").is_some_and(|o| names.iter().any(|n| n.eq_ignore_ascii_case(o)))
    };
    origin.filter(|o| !own(o)).map(|_| "another site's page may not read this one\n")
}

fn plain(status: u16, text: &str) -> Answer {
    typed(status, text.as_bytes().to_vec(), "text/plain; charset=utf-8")
}

fn typed(status: u16, bytes: Vec<u8>, kind: &str) -> Answer {
    // Everything is in the page: nothing is loaded from elsewhere, whatever a name in it says.
    const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
        style-src 'unsafe-inline'; img-src data: 'self'; connect-src 'self'; base-uri 'none'; \
        form-action 'none'; frame-ancestors 'none'";
    let headers = [
        ("Content-Type", kind),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    ];
    let header = |(name, value): (&str, &str)| Header::from_bytes(name, value).ok();
    let mut response = Response::from_data(bytes).with_status_code(StatusCode(status));
    // `from_data` has no type of its own; each of ours is ASCII.
    headers.into_iter().filter_map(header).for_each(|h| response.add_header(h));
    response
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("json") => "application/json",
        Some("csv") => "text/csv; charset=utf-8",
        Some("md" | "tex") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The page until the first run has been evaluated.
const WAITING: &str = include_str!("waiting.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_this_page_are_answered() {
        let own: SocketAddr = "127.0.0.1:8000".parse().unwrap();
        let refused = |host, origin| refuses(own, host, origin).is_some();
        assert!(!refused(Some("127.0.0.1:8000"), None));
        assert!(!refused(Some("LOCALHOST:8000"), Some("http://localhost:8000")));
        assert!(refused(None, None));
        assert!(refused(Some("evil.example:8000"), None));
        assert!(refused(Some("127.0.0.1:8001"), None));
        assert!(refused(Some("127.0.0.1:8000"), Some("http://evil.example")));
        assert!(refused(Some("127.0.0.1:8000"), Some("https://127.0.0.1:8000")));
        assert!(refused(Some("127.0.0.1:8000"), Some("null")));
    }
}
