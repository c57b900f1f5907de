//! Calls to etcd as a whole: the members in turn, under deadlines, with a login.
//!
//! A call goes to one member. When that one is gone, silent or without a leader, the *same* call goes to the next, until one
//! answers or the time is over. So a write may arrive twice, or after its answer was given up: whoever writes must
//! compare, so that the second arrival changes nothing. Next: [`super::store`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::channel::{Channel, Failure, Stream};
use super::messages::{self, Watched, path};
use super::options::{Endpoint, EtcdOptions, EtcdTimeouts};
use super::proto::Malformed;
use super::tls::client_config;
use crate::cluster::error::ClusterError;

/// Pause after all members were tried in vain.
const ROUND_PAUSE: Duration = Duration::from_millis(20);

/// Numbers of gRPC.
mod code {
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const NOT_FOUND: u32 = 5;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const FAILED_PRECONDITION: u32 = 9;
    pub(super) const OUT_OF_RANGE: u32 = 11;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const DATA_LOSS: u32 = 15;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// What a refusal means for the call.
#[derive(Debug)]
enum Verdict {
    /// Another member, or this one later, may answer.
    Elsewhere(String),
    /// So would every member.
    Final(ClusterError),
    /// This member's certificate, or ours before it, is refused.
    Untrusted(String),
    /// The token is not good any more.
    LogInAnew(String),
}

fn judge(failure: Failure) -> Verdict {
    let (code, words) = match failure {
        Failure::Broken(why) => return Verdict::Elsewhere(why),
        Failure::Tls(why) => return Verdict::Untrusted(format!("TLS: {why}")),
        Failure::Said(code, words) => (code, words),
    };
    let denied = |words| Verdict::Final(ClusterError::Denied(words));
    match code {
        code::RESOURCE_EXHAUSTED if words.contains("space exceeded") => {
            Verdict::Final(ClusterError::OutOfSpace(words))
        }
        code::UNAUTHENTICATED => Verdict::LogInAnew(words),
        // A change of users or roles between our login and the call.
        code::INVALID_ARGUMENT if words.contains("old revision") || words.contains("revision in header") => {
            Verdict::LogInAnew(words)
        }
        code::PERMISSION_DENIED => denied(words),
        code::INVALID_ARGUMENT if words.contains("user name is empty") => {
            denied(format!("{words}: it asks for a login, and this node has none"))
        }
        code::INVALID_ARGUMENT if words.contains("authentication failed") => denied(words),
        code::FAILED_PRECONDITION if words.contains("authentication is not enabled") => denied(format!(
            "{words}: this node has a login, and etcd asks nobody for one; `etcdctl auth enable`"
        )),
        code::INVALID_ARGUMENT if words.contains("too large") => {
            Verdict::Final(ClusterError::Unusable(format!(
                "etcd takes no request as large as a block ({words}); give its members --max-request-bytes 1572864"
            )))
        }
        code::INVALID_ARGUMENT | code::NOT_FOUND | code::OUT_OF_RANGE | code::UNIMPLEMENTED => {
            Verdict::Final(ClusterError::Unusable(format!("etcd does not take this call: {words}")))
        }
        code::DATA_LOSS => {
            Verdict::Final(ClusterError::Corrupt { key: "the whole store".into(), what: words })
        }
        _ => Verdict::Elsewhere(words),
    }
}

/// Turns bytes that are no answer into an error.
pub(super) fn understood<T>(answer: Result<T, Malformed>) -> Result<T, ClusterError> {
    answer
        .map_err(|Malformed| ClusterError::Unusable("what answers is not etcd; correct the endpoints".into()))
}

/// The way to etcd.
pub(super) struct Client {
    runtime: Runtime,
    members: Vec<Endpoint>,
    tls: Option<Arc<ClientConfig>>,
    login: Option<(String, String)>,
    timeouts: EtcdTimeouts,
    /// The member whose turn it is.
    at: usize,
    channel: Option<Channel>,
    watch: Option<Stream>,
    token: String,
}

impl Client {
    /// Checks the options; connects to nobody yet.
    pub(super) fn new(options: &EtcdOptions) -> Result<Self, ClusterError> {
        let members = options.members()?;
        let tls = members[0].is_tls.then(|| client_config(&options.tls)).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| ClusterError::Unusable(format!("no runtime: {error}")))?;
        let (login, timeouts) = (options.login.clone(), options.timeouts);
        let (channel, watch, token) = (None, None, String::new());
        Ok(Self { runtime, members, tls, login, timeouts, at: 0, channel, watch, token })
    }

    /// One call, to whichever member answers.
    pub(super) fn call(&mut self, path: &str, message: &[u8]) -> Result<Bytes, ClusterError> {
        let deadline = Instant::now() + self.timeouts.call;
        let Self { runtime, members, tls, login, timeouts, at, channel, watch, token } = self;
        let mut calls = Calls { members, tls, login, timeouts, at, channel, watch, token };
        runtime.block_on(calls.until(deadline, path, message))
    }

    /// The next word of a watch that was begun at a revision by `begin`, or before; `None` when there was none
    /// within `wait`. Words may have come for an older beginning: they are of changes all the same.
    pub(super) fn watched(&mut self, begin: &[u8], wait: Duration) -> Result<Option<Watched>, ClusterError> {
        let deadline = Instant::now() + wait;
        let Self { runtime, members, tls, login, timeouts, at, channel, watch, token } = self;
        let mut calls = Calls { members, tls, login, timeouts, at, channel, watch, token };
        let word = runtime.block_on(calls.word(begin, deadline));
        if word.is_err() {
            self.forget_watch();
        }
        match word.map_err(judge) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => understood(messages::read_watch(&bytes)).map(Some),
            Err(Verdict::Final(error)) => Err(error),
            Err(Verdict::Elsewhere(why) | Verdict::LogInAnew(why) | Verdict::Untrusted(why)) => {
                self.leave_member();
                Err(ClusterError::Unavailable(why))
            }
        }
    }

    /// Ends the watch: the next one is begun anew.
    pub(super) fn forget_watch(&mut self) {
        self.watch = None;
    }

    /// Ends the watch, which etcd has refused: the token may have run out.
    pub(super) fn forget_login(&mut self) {
        self.forget_watch();
        self.token.clear();
    }

    fn leave_member(&mut self) {
        self.forget_watch();
        self.channel = None;
        self.at = (self.at + 1) % self.members.len();
    }

    /// The same call to every member, each over a connection of its own: the answers of those that give one.
    pub(super) fn ask_all(&self, path: &str, message: &[u8]) -> Vec<Bytes> {
        let (tls, token) = (self.tls.as_ref(), self.token.as_str());
        let ask = async |member: &Endpoint| {
            let asked = async {
                let channel = Channel::connect(member, tls).await?;
                channel.unary(path, message, token).await
            };
            timeout(self.timeouts.attempt, asked).await.ok()?.ok()
        };
        self.runtime.block_on(async {
            let mut answers = Vec::new();
            for member in &self.members {
                answers.extend(ask(member).await);
            }
            answers
        })
    }
}

/// The client without its runtime, which cannot be borrowed by what runs on it.
struct Calls<'c> {
    members: &'c [Endpoint],
    tls: &'c Option<Arc<ClientConfig>>,
    login: &'c Option<(String, String)>,
    timeouts: &'c EtcdTimeouts,
    at: &'c mut usize,
    channel: &'c mut Option<Channel>,
    watch: &'c mut Option<Stream>,
    token: &'c mut String,
}

impl Calls<'_> {
    async fn until(&mut self, deadline: Instant, path: &str, message: &[u8]) -> Result<Bytes, ClusterError> {
        let (mut tried, mut logins, mut untrusted) = (0, 0, 0);
        loop {
            let attempt = deadline.min(Instant::now() + self.timeouts.attempt);
            let answer = timeout_at(attempt, self.once(path, message)).await;
            let silent =
                || Failure::Broken(format!("no answer for {} ms", self.timeouts.attempt.as_millis()));
            let why = match answer.unwrap_or_else(|_| Err(silent())).map_err(judge) {
                Ok(answer) => return Ok(answer),
                Err(Verdict::Final(error)) => return Err(error),
                Err(Verdict::LogInAnew(why)) => {
                    self.token.clear();
                    logins += 1;
                    if logins > self.members.len() {
                        return Err(ClusterError::Denied(why));
                    }
                    why
                }
                Err(Verdict::Elsewhere(why)) => self.go_on(&why),
                Err(Verdict::Untrusted(why)) => {
                    // One expired certificate is that member's trouble; all of them are ours.
                    untrusted += 1;
                    let why = self.go_on(&why);
                    if untrusted == self.members.len() {
                        return Err(ClusterError::Denied(why));
                    }
                    why
                }
            };
            tried += 1;
            if tried % self.members.len() == 0 {
                sleep(ROUND_PAUSE).await;
            }
            if Instant::now() >= deadline {
                return Err(ClusterError::Unavailable(why));
            }
        }
    }

    /// Turns to the next member; gives why, with the name of this one.
    fn go_on(&mut self, why: &str) -> String {
        let why = format!("{}: {why}", self.members[*self.at].url());
        self.leave_member();
        why
    }

    /// The token stays: it is good at every member, and a new one costs etcd some 50 ms of processor time.
    fn leave_member(&mut self) {
        (*self.channel, *self.watch) = (None, None);
        *self.at = (*self.at + 1) % self.members.len();
    }

    /// A connection, logged in.
    async fn ready(&mut self) -> Result<(&Channel, &str), Failure> {
        if self.channel.is_none() {
            let connected = Channel::connect(&self.members[*self.at], self.tls.as_ref());
            let connected = timeout(self.timeouts.connect, connected).await;
            let late =
                || Failure::Broken(format!("no connection within {} ms", self.timeouts.connect.as_millis()));
            *self.channel = Some(connected.unwrap_or_else(|_| Err(late()))?);
        }
        let channel = self.channel.as_ref().expect("made above");
        if let Some((user, password)) = self.login.as_ref().filter(|_| self.token.is_empty()) {
            let asked = messages::authenticate(user, password);
            let answer = channel.unary(path::AUTHENTICATE, &asked, "").await?;
            let token = messages::read_token(&answer);
            *self.token = token.map_err(|Malformed| Failure::Broken("an answer without a token".into()))?;
        }
        Ok((channel, self.token))
    }

    async fn once(&mut self, path: &str, message: &[u8]) -> Result<Bytes, Failure> {
        let (channel, token) = self.ready().await?;
        channel.unary(path, message, token).await
    }

    /// The next word of the watch, which is begun first if there is none.
    async fn word(&mut self, begin: &[u8], deadline: Instant) -> Result<Option<Bytes>, Failure> {
        if self.watch.is_none() {
            let attempt = Instant::now() + self.timeouts.attempt;
            let begun = async {
                let (channel, token) = self.ready().await?;
                channel.stream(path::WATCH, begin, token).await
            };
            let silent = Failure::Broken("no answer to a watch".into());
            let begun = timeout_at(attempt, begun).await.unwrap_or(Err(silent))?;
            *self.watch = Some(begun);
        }
        let watch = self.watch.as_mut().expect("begun above");
        match timeout_at(deadline, watch.next()).await {
            Err(_) => Ok(None),
            Ok(Ok(Some(word))) => Ok(Some(word)),
            Ok(Ok(None)) => {
                let watch = self.watch.take().expect("it has just ended");
                Err(watch.ended().await)
            }
            Ok(Err(failure)) => Err(failure),
        }
    }
}
