//! A blocking HTTP/1.1 client for what runs at rest: one request, one response, one connection kept.
//!
//! The generator itself sends through [`crate::engine`]; both read with [`crate::response`].

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::response::Reader;

/// Most bytes of one response: a page of the merchant API holds a thousand orders.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Bytes received per call.
const RECEIVE_BYTES: usize = 64 << 10;

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body, without the sizes of its chunks.
    pub body: Vec<u8>,
}

/// A server, and the connection to it that was left open.
pub struct Client {
    host: String,
    timeout: Duration,
    idle: Mutex<Option<TcpStream>>,
}

impl Client {
    /// A client of `host:port`; nothing is sent yet. An exchange takes at most `timeout`.
    pub fn new(host: &str, timeout: Duration) -> Self {
        Self { host: host.to_owned(), timeout, idle: Mutex::default() }
    }

    /// Sends a request without further ado: `headers` are whole lines with their ends.
    ///
    /// # Errors
    /// As [`Client::exchange`].
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Response> {
        let (host, length) = (&self.host, body.len());
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}").into_bytes();
        if length > 0 {
            write!(request, "Content-Length: {length}\r\n")?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.exchange(&request)
    }

    /// Sends the bytes of one request and reads its response. If the server closed the connection
    /// meanwhile, the request is sent once more on a new one.
    ///
    /// # Errors
    /// What the system says, bytes that are no response, or that it takes too long.
    pub fn exchange(&self, request: &[u8]) -> io::Result<Response> {
        let deadline = Instant::now() + self.timeout;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        match idle.map(|stream| self.over(stream, request, deadline)) {
            Some(Ok(response)) => Ok(response),
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            _ => self.over(self.connect()?, request, deadline),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for addr in self.host.to_socket_addrs()? {
            match TcpStream::connect_timeout(&addr, self.timeout) {
                Ok(stream) => return stream.set_nodelay(true).map(|()| stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn over(&self, mut stream: TcpStream, request: &[u8], deadline: Instant) -> io::Result<Response> {
        stream.set_write_timeout(Some(self.timeout))?;
        stream.write_all(request)?;
        let (mut reader, mut inbox) = (Reader::of_at_most(RESPONSE_BYTES_MAX), Vec::new());
        let mut bytes = vec![0; RECEIVE_BYTES];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left))?;
            let count = match stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                // What a socket says when its time is over.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no response in time"));
                }
                read => read?,
            };
            inbox.extend_from_slice(&bytes[..count]);
            let Some(head) = reader.read(&inbox).map_err(io::Error::other)? else { continue };
            if !head.close {
                *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
            }
            let body = reader.body(&inbox[head.head_bytes..head.head_bytes + head.body_bytes]);
            return Ok(Response { status: head.status, body });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Answers each connection's requests with these responses, then hangs up.
    fn server(connections: &'static [&'static [&'static str]]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for responses in connections {
                let mut stream = listener.accept().unwrap().0;
                for response in *responses {
                    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
                    stream.write_all(response.as_bytes()).unwrap();
                }
            }
        });
        host
    }

    #[test]
    fn a_connection_is_kept_and_made_again_when_it_was_closed() {
        let host = server(&[
            &[
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
                "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
            ],
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbc\r\n1;x\r\nd\r\n0\r\n\r\n"],
        ]);
        let client = Client::new(&host, Duration::from_secs(10));
        let get = || client.request("GET", "/", "", b"").unwrap();
        assert_eq!(get(), Response { status: 200, body: b"a".to_vec() });
        assert_eq!(get(), Response { status: 404, body: Vec::new() });
        assert_eq!(get(), Response { status: 200, body: b"bcd".to_vec() });
    }

    #[test]
    fn silence_and_what_is_no_response_are_errors() {
        let host = server(&[&["SSH-2.0-x\r\n"]]);
        let client = Client::new(&host, Duration::from_secs(10));
        assert!(client.request("GET", "/", "", b"").unwrap_err().to_string().contains("not HTTP"));
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&silent.local_addr().unwrap().to_string(), Duration::from_millis(50));
        let error = client.request("GET", "/", "", b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
