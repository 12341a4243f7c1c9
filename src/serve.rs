//! The report over HTTP, on loopback only: the latest page, the files it links to, and the state of
//! the run as JSON.
//!
//! A page elsewhere must not read it through the user's browser: every request names a host of this
//! machine (against DNS rebinding), and an `Origin` is that very host. The port may be any, because it may
//! be forwarded.
//!
//! No client keeps another from its answer. Each connection has a thread, carries one request, and is
//! closed. There is a limit on connections: at the limit, the oldest one whose request is not complete
//! gives way to a new one. A request has a limit on its size and its time, its body is not read, and
//! files are sent in pieces, so that memory is bounded too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::store::{Store, Tree};

/// The most connections at once. A browser opens six.
const MAX_CONNECTIONS: usize = 64;
/// The most threads at once: those of connections that gave way end a little later.
const MAX_THREADS: usize = 2 * MAX_CONNECTIONS;
/// The most bytes of a request line with its headers.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// The most headers of a request.
const MAX_HEADERS: usize = 64;
/// How long a request line with its headers may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client that still sends is listened to after its answer, and how much of it: a connection
/// that is closed before could lose the answer on its way.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 << 10;
/// How long the server waits where the system gives it no connection or no thread.
const PAUSE: Duration = Duration::from_millis(10);

/// What is served now.
#[derive(Debug, Clone)]
pub struct Content {
    /// The page; none until there is something to report.
    pub page: Option<Arc<str>>,
    /// The files that the page links to.
    pub files: Arc<Tree>,
    /// `live.json`.
    pub state: Arc<str>,
}

impl Default for Content {
    fn default() -> Self {
        let state = json!({ "version": 0, "tasks": 0, "done": 0, "running": {}, "failed": {} });
        Self { page: None, files: Arc::default(), state: state.to_string().into() }
    }
}

/// A server on 127.0.0.1.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
}

/// What all connections share.
struct Site {
    content: Arc<RwLock<Content>>,
    store: Store,
    connections: Mutex<BTreeMap<u64, Connection>>,
    threads: AtomicUsize,
}

/// An open connection.
struct Connection {
    stream: Arc<TcpStream>,
    /// Whether its request is complete, and it is being answered.
    is_answered: bool,
}

/// An answer to a request.
struct Answer {
    status: u16,
    /// Its media type.
    kind: &'static str,
    body: Body,
}

enum Body {
    Text(Arc<str>),
    /// Of this size in bytes.
    File(File, u64),
}

/// The parts of a request that matter here.
#[derive(Debug)]
struct Request {
    method: String,
    target: String,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Server {
    /// Listens; of port 0 the system chooses one.
    ///
    /// # Errors
    /// Returns an error if the port is taken.
    pub fn bind(port: u16, store: &Store) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let site = Site {
            content: Arc::default(),
            store: store.clone(),
            connections: Mutex::default(),
            threads: AtomicUsize::new(0),
        };
        Ok(Self { listener, address, site: Arc::new(site) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves; whoever holds this may replace it.
    #[must_use]
    pub fn content(&self) -> Arc<RwLock<Content>> {
        Arc::clone(&self.site.content)
    }

    /// Answers requests until the process ends.
    pub fn serve(&self) {
        for (number, stream) in (0..).zip(self.listener.incoming()) {
            match stream {
                Ok(stream) => self.start(number, stream),
                // Out of file descriptors, say.
                Err(_) => {
                    self.site.end_oldest();
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// Serves a connection in a thread of its own. Without a thread for it, the connection is closed.
    fn start(&self, number: u64, stream: TcpStream) {
        let stream = Arc::new(stream);
        while self.site.connections().len() >= MAX_CONNECTIONS {
            self.site.end_oldest();
        }
        while self.site.threads.load(Ordering::Acquire) >= MAX_THREADS {
            std::thread::sleep(PAUSE);
        }
        let connection = Connection { stream: Arc::clone(&stream), is_answered: false };
        self.site.connections().insert(number, connection);
        self.site.threads.fetch_add(1, Ordering::AcqRel);
        let open = Open { site: Arc::clone(&self.site), number };
        let thread = std::thread::Builder::new().name("connection".to_owned());
        // If there is no thread, the closure is dropped, and the connection with it.
        let _ = thread.spawn(move || open.site.converse(open.number, &stream));
    }
}

/// Closes a connection when its thread ends, however it ends.
struct Open {
    site: Arc<Site>,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.site.connections().remove(&self.number);
        self.site.threads.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Site {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the oldest connection without a complete request, or else the oldest.
    fn end_oldest(&self) {
        let mut connections = self.connections();
        let idle = connections.iter().find(|(_, connection)| !connection.is_answered);
        let Some(number) = idle.or_else(|| connections.iter().next()).map(|(n, _)| *n) else {
            return;
        };
        if let Some(connection) = connections.remove(&number) {
            // What its thread waits for fails now.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }

    /// Reads one request and answers it. A client that is gone or too slow gets nothing.
    fn converse(&self, number: u64, mut stream: &TcpStream) {
        let read = read_request(&mut Timed { stream, deadline: Instant::now() + HEAD_TIMEOUT });
        let (answer, is_head) = match read {
            Ok(request) => (self.answer(&request), request.method == "HEAD"),
            Err(Unread::Refused(answer)) => (answer, false),
            Err(Unread::Gone) => return,
        };
        if let Some(connection) = self.connections().get_mut(&number) {
            connection.is_answered = true;
        }
        if stream.set_write_timeout(Some(WRITE_TIMEOUT)).is_err()
            || answer.send(&mut stream, is_head).is_err()
            || stream.shutdown(Shutdown::Write).is_err()
        {
            return;
        }
        if let Some(connection) = self.connections().get_mut(&number) {
            connection.is_answered = false;
        }
        let rest = Timed { stream, deadline: Instant::now() + LINGER_TIMEOUT };
        let _ = io::copy(&mut rest.take(LINGER_BYTES), &mut io::sink());
    }

    fn answer(&self, request: &Request) -> Answer {
        if let Some(refusal) = refusal(request) {
            return Answer::plain(403, refusal);
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Answer::plain(405, "only GET is answered here\n");
        }
        let path = request.target.split(['?', '#']).next().unwrap_or_default();
        // A writer that panicked left what was there before.
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        let text = |text: &Arc<str>, kind| Answer {
            status: 200,
            kind,
            body: Body::Text(Arc::clone(text)),
        };
        match path {
            "/" | "/index.html" => {
                let waiting = || Arc::from(WAITING);
                text(&content.page.clone().unwrap_or_else(waiting), "text/html; charset=utf-8")
            }
            "/live.json" => text(&content.state, "application/json"),
            other => {
                let Some(entry) = content.files.files.get(other.trim_start_matches('/')).cloned()
                else {
                    return Answer::plain(404, "there is no such file\n");
                };
                // Reading a file may take longer than others should wait.
                drop(content);
                match self.store.open_out(&entry) {
                    Ok(file) => Answer {
                        status: 200,
                        kind: kind(other),
                        body: Body::File(file, entry.size),
                    },
                    Err(_) => Answer::plain(404, "that file is gone from the cache\n"),
                }
            }
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A stream that can be read until a deadline.
struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Why there is no request.
enum Unread {
    /// The client is gone, or sends nothing.
    Gone,
    /// What it sends is not a request that is answered here.
    Refused(Answer),
}

/// Reads a request line with its headers, and not the body.
fn read_request(stream: &mut impl Read) -> Result<Request, Unread> {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = match stream.read(&mut piece) {
            Ok(0) => return Err(Unread::Gone),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Unread::Gone),
        };
        head.extend_from_slice(&piece[..read]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let refused = |status, text| Err(Unread::Refused(Answer::plain(status, text)));
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => return Ok(Request::of(&request)),
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD_BYTES => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return refused(431, "the headers are too long\n");
            }
            Err(_) => return refused(400, "that is not an HTTP request\n"),
        }
    }
}

impl Request {
    fn of(request: &httparse::Request<'_, '_>) -> Self {
        let values = |name: &str| {
            let headers = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            headers.map(|h| String::from_utf8_lossy(h.value).into_owned()).collect()
        };
        Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            hosts: values("Host"),
            origins: values("Origin"),
        }
    }
}

/// Why a request is refused, if it is.
fn refusal(request: &Request) -> Option<&'static str> {
    let [host] = request.hosts.as_slice() else {
        return Some("a request names one host\n");
    };
    if !is_this_machine(host) {
        return Some("this server answers to localhost, 127.0.0.1 and [::1] only\n");
    }
    let is_same = |origin: &String| {
        origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    };
    if !request.origins.iter().all(is_same) {
        return Some("another site's page may not read this one\n");
    }
    None
}

/// Whether the value of a `Host` header is a name of this machine, with any port or none.
fn is_this_machine(host: &str) -> bool {
    let name_ends =
        if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':') };
    let (name, port) = host.split_at(name_ends.unwrap_or(host.len()));
    let is_port =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let names = ["localhost", "127.0.0.1", "[::1]"];
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

impl Answer {
    fn plain(status: u16, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: Body::Text(text.into()) }
    }

    /// Sends the answer, without its body if the request was `HEAD`.
    fn send(self, stream: &mut impl Write, is_head: bool) -> io::Result<()> {
        // Everything is in the page: nothing is loaded from elsewhere, whatever a name in it says.
        const HEADERS: &str = "Content-Security-Policy: default-src 'none'; \
            script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: 'self'; \
            connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
            X-Content-Type-Options: nosniff\r\n\
            Cross-Origin-Resource-Policy: same-origin\r\n\
            Referrer-Policy: no-referrer\r\n\
            Cache-Control: no-store\r\n\
            Connection: close\r\n";
        let length = match &self.body {
            Body::Text(text) => text.len() as u64,
            Body::File(_, size) => *size,
        };
        let (status, kind) = (self.status, self.kind);
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            _ => "Request Header Fields Too Large",
        };
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{HEADERS}\r\n"
        );
        stream.write_all(head.as_bytes())?;
        match self.body {
            _ if is_head => Ok(()),
            Body::Text(text) => stream.write_all(text.as_bytes()),
            Body::File(file, size) => io::copy(&mut file.take(size), stream).map(drop),
        }
    }
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
    use proptest::prelude::*;

    fn is_refused(hosts: &[&str], origins: &[&str]) -> bool {
        let owned = |values: &[&str]| values.iter().map(|&v| v.to_owned()).collect();
        let (hosts, origins) = (owned(hosts), owned(origins));
        refusal(&Request { method: "GET".into(), target: "/".into(), hosts, origins }).is_some()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["127.0.0.1:8000", "LOCALHOST:1", "localhost", "[::1]:65535", "[::1]"] {
            assert!(!is_refused(&[host], &[]), "{host}");
        }
        for host in [
            "",
            "evil.example:8000",
            "localhost.evil.example",
            "evil.example#localhost",
            "127.0.0.1:",
            "localhost:x",
            "localhost:65536",
            "localhost:+1",
            "localhost:1:1",
            "[::1",
            "[::1]x",
            "::1",
            "127.0.0.2",
            "localhost@evil.example",
            "localhost:1@evil.example",
            " localhost",
        ] {
            assert!(is_refused(&[host], &[]), "{host}");
        }
        assert!(is_refused(&[], &[]));
        assert!(is_refused(&["localhost", "evil.example"], &[]));
        assert!(is_refused(&["localhost", "localhost"], &[]));
    }

    #[test]
    fn an_origin_is_the_host_of_the_same_request() {
        assert!(!is_refused(&["localhost:8000"], &["http://LocalHost:8000"]));
        assert!(!is_refused(&["localhost"], &["http://localhost"]));
        for origin in [
            "http://evil.example",
            "https://localhost:8000",
            "null",
            "",
            "http://localhost:8001",
            "http://127.0.0.1:8000",
            "localhost:8000",
            "http://localhost:8000/",
        ] {
            assert!(is_refused(&["localhost:8000"], &[origin]), "{origin}");
        }
        assert!(is_refused(&["localhost"], &["http://localhost", "http://evil.example"]));
    }

    /// The status of what `read_request` refuses; 200 for a request, 0 for none.
    fn status_of(mut sent: &[u8]) -> u16 {
        match read_request(&mut sent) {
            Ok(_) => 200,
            Err(Unread::Refused(answer)) => answer.status,
            Err(Unread::Gone) => 0,
        }
    }

    #[test]
    fn requests_have_limits() {
        let with = |headers: &str| format!("GET / HTTP/1.1\r\n{headers}\r\n").into_bytes();
        assert_eq!(status_of(&with("Host: localhost\r\n")), 200);
        assert_eq!(status_of(&with("")[..10]), 0);
        assert_eq!(status_of(b""), 0);
        assert_eq!(status_of(b"nonsense\r\n\r\n"), 400);
        assert_eq!(status_of(b"\x16\x03\x01\x02\x00\x01\x00"), 400);
        assert_eq!(status_of(&with(&"X: y\r\n".repeat(MAX_HEADERS))), 200);
        assert_eq!(status_of(&with(&"X: y\r\n".repeat(MAX_HEADERS + 1))), 431);
        assert_eq!(status_of(&with(&format!("X: {}\r\n", "y".repeat(10 * MAX_HEAD_BYTES)))), 431);
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(10 * MAX_HEAD_BYTES));
        assert_eq!(status_of(long.as_bytes()), 431);
    }

    #[test]
    fn an_answer_has_a_length_and_what_keeps_a_page_to_itself() {
        let send = |is_head| {
            let mut sent = Vec::new();
            Answer::plain(404, "there is none\n").send(&mut sent, is_head).unwrap();
            String::from_utf8(sent).unwrap()
        };
        let (head, body) = (send(true), send(false));
        assert_eq!(body, format!("{head}there is none\n"));
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n") && head.ends_with("\r\n\r\n"));
        for header in ["Content-Length: 14", "X-Content-Type-Options: nosniff", "Connection: close"]
        {
            assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
        }
        assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; script-src "));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            status_of(&bytes);
            status_of(&[b"GET / HTTP/1.1\r\nHost: ", bytes.as_slice()].concat());
        }
    }
}
