//! One connection to one member: gRPC calls over HTTP/2. Knows neither deadlines nor other members. Next: [`super::client`].

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::options::Endpoint;
use crate::cluster::limits::ANSWER_BYTES_MAX;

/// Bytes in front of each message: not compressed, length.
const PREFIX_BYTES: usize = 5;
/// Bytes that etcd may send before we have taken them: no answer has to wait.
const WINDOW_BYTES: u32 = ANSWER_BYTES_MAX as u32;

/// Why a call on a connection failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The member has answered no, with gRPC's number and its words.
    Said(u32, String),
    /// The certificate or the handshake was refused: it would be again.
    Tls(String),
    /// The connection broke, or what came over it is no gRPC.
    Broken(String),
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::Broken(error.to_string())
}

/// With TLS 1.3 a member refuses our certificate only when we read its first answer.
fn h2_failure(error: &h2::Error) -> Failure {
    match error.get_io() {
        Some(io) if io.kind() == io::ErrorKind::InvalidData => Failure::Tls(io.to_string()),
        _ => broken(error),
    }
}

/// An open connection.
pub(super) struct Channel {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
    url: String,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Channel {
    /// Connects; called within a runtime, on which the connection lives.
    pub(super) async fn connect(to: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Failure> {
        let tcp = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(|error| broken(&error))?;
        tcp.set_nodelay(true).map_err(|error| broken(&error))?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        builder.max_send_buffer_size(ANSWER_BYTES_MAX);
        let Some(config) = tls else {
            let (sender, connection) = builder.handshake(tcp).await.map_err(|error| broken(&error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            return Ok(Self { sender, driver, url: to.url() });
        };
        let name = ServerName::try_from(to.host.clone()).map_err(|error| Failure::Tls(error.to_string()))?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => Failure::Tls(error.to_string()),
            _ => broken(&error),
        })?;
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| broken(&error))?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver, url: to.url() })
    }

    /// One message there and one back.
    pub(super) async fn unary(&self, path: &str, message: &[u8], token: &str) -> Result<Bytes, Failure> {
        let mut stream = self.open(path, token, true, message).await?;
        let answer = stream.next().await?;
        // What stands behind the message says whether it counts.
        stream.finish().await?;
        answer.ok_or_else(|| broken(&"an answer without a message"))
    }

    /// A call whose answers come one by one. It ends when it is dropped.
    pub(super) async fn stream(&self, path: &str, message: &[u8], token: &str) -> Result<Stream, Failure> {
        self.open(path, token, false, message).await
    }

    async fn open(&self, path: &str, token: &str, is_last: bool, message: &[u8]) -> Result<Stream, Failure> {
        let mut request = Request::post(format!("{}{path}", self.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // A member that has lost its majority says so at once, instead of letting us wait for it.
            .header("hasleader", "true");
        if !token.is_empty() {
            request = request.header("token", token);
        }
        let request = request.body(()).map_err(|error| broken(&error))?;
        let mut sender = self.sender.clone().ready().await.map_err(|error| h2_failure(&error))?;
        let (response, mut to_member) =
            sender.send_request(request, false).map_err(|error| h2_failure(&error))?;
        let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
        let length = u32::try_from(message.len()).expect("a request is bounded");
        framed.extend_from_slice(&[0]);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(message);
        to_member.send_data(framed.freeze(), is_last).map_err(|error| broken(&error))?;
        let response = response.await.map_err(|error| h2_failure(&error))?;
        if !response.status().is_success() {
            return Err(Failure::Broken(format!("HTTP status {}; is this etcd?", response.status())));
        }
        // An answer of trailers alone: refused before anything was done.
        if response.headers().contains_key("grpc-status") {
            judge(response.headers())?;
        }
        Ok(Stream { from_member: response.into_body(), _to_member: to_member, buffer: BytesMut::new() })
    }
}

/// What comes back.
pub(super) struct Stream {
    from_member: RecvStream,
    /// Its drop would end the call.
    _to_member: SendStream<Bytes>,
    buffer: BytesMut,
}

impl Stream {
    /// The next message; `None` when there are no more. Nothing is lost when this is dropped in mid-wait.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            let Some(data) = self.from_member.data().await else { return Ok(None) };
            let data = data.map_err(|error| broken(&error))?;
            self.buffer.extend_from_slice(&data);
            let released = self.from_member.flow_control().release_capacity(data.len());
            released.map_err(|error| broken(&error))?;
        }
    }

    fn whole(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(&[flags, ref length @ ..]) = self.buffer.first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if flags != 0 || length > ANSWER_BYTES_MAX {
            return Err(Failure::Broken(format!("a message of {length} bytes, flags {flags}")));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let mut message = self.buffer.split_to(PREFIX_BYTES + length).freeze();
        Ok(Some(message.split_off(PREFIX_BYTES)))
    }

    /// Reads to the end of the answer, which says whether it counts.
    async fn finish(&mut self) -> Result<(), Failure> {
        while self.next().await?.is_some() {}
        let trailers = self.from_member.trailers().await.map_err(|error| broken(&error))?;
        judge(&trailers.ok_or_else(|| broken(&"an answer without its end"))?)
    }

    /// Why it has ended.
    pub(super) async fn ended(mut self) -> Failure {
        self.finish().await.err().unwrap_or_else(|| broken(&"the stream has ended"))
    }
}

fn judge(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status").parse() {
        Ok(0) => Ok(()),
        Ok(code) => Err(Failure::Said(code, text("grpc-message").to_owned())),
        Err(_) => Err(broken(&"an answer without a status")),
    }
}
