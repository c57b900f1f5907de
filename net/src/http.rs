//! HTTP/1.1 without sockets: received bytes become requests, responses become bytes.
//!
//! Nothing here can name a socket, an executor or a clock: time comes in as an
//! argument, so that every rule is tested byte by byte. Header lines that are written
//! as nearly all clients write them are parsed in one pass, all others by httparse; every
//! framing rule is our own, and a message with ambiguous framing is refused and its
//! connection closed.
//!
//! Where the RFCs leave a choice, or their lax reading has been abused, the strict side is taken: one space between
//! the parts of a request line; at most one empty line before it; no leading zero in `Content-Length`; no body on
//! GET, HEAD, DELETE, OPTIONS and TRACE; `chunked` is the only transfer coding, in HTTP/1.1 alone and never beside
//! a `Content-Length`; the line of a chunk has no spaces before its end, and a bare line feed ends nothing there
//! either; percent signs are never decoded in a path, except in a subject; `Expect: 100-continue` is answered, any
//! other expectation refused. HEAD is GET without the body. Each of these refusals closes the connection; 404, 405
//! and what is wrong with a query or a body do not. Three things that do not affect framing are lax: a body without
//! a stated length is empty; the host of a target in absolute form wins over `Host`; a query may have any
//! characters but spaces and controls, and on pages and buyers' reads any parameters.
//!
//! Read in this order: [`conn`] (bytes to requests), [`head`] and [`field`] (what a request
//! says about itself), [`route`] (which endpoint it is for), [`body`] (what it carries),
//! [`problem`] (what can be wrong), [`answer`] (what goes out); [`batch`] for the one endpoint
//! whose body is read piece by piece; [`proxy_header`] for what a TCP proxy sends before everything else.

pub mod answer;
pub mod assets;
pub mod batch;
pub mod body;
pub(crate) mod chars;
pub(crate) mod chunks;
pub mod conn;
pub mod cursor;
pub mod draw;
pub mod field;
pub mod head;
pub(crate) mod json;
pub mod json_out;
pub mod limits;
pub mod line;
pub mod negotiate;
pub mod page;
pub mod problem;
pub mod proxy_header;
pub(crate) mod query;
mod refusal;
mod response;
pub mod route;
mod status;
pub(crate) mod subject;
mod templates;
