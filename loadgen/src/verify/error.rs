//! Why items could not be verified: no verdict, rather than a bad one.

use crate::request::RequestError;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The merchant API does not respond.
    #[error("cannot reach {url}: {cause}; is the merchant API up and the address right?")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        cause: String,
    },
    /// It refuses the request.
    #[error("{url} returned {status}: {body}; check the item's number and the admin token")]
    Refused {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// The body's beginning.
        body: String,
    },
    /// Its response is not in the contract.
    #[error("{url} returned an unexpected response: {what}")]
    Unexpected {
        /// The URL.
        url: String,
        /// What is wrong.
        what: String,
    },
    /// The item does not come to rest.
    #[error("item {0} keeps changing; verify when the sale is over")]
    Restless(u32),
    /// The export does not catch up.
    #[error(
        "the export stands at LSN {exported}, durable is {durable}; is Postgres up? raise --export-wait if it is slow"
    )]
    ExportBehind {
        /// Last exported LSN.
        exported: u64,
        /// Last durable LSN.
        durable: u64,
    },
    /// Postgres does not respond as it should.
    #[error("cannot read from Postgres: {0}")]
    Postgres(String),
    /// Buyers' requests cannot be made with these settings.
    #[error(transparent)]
    Request(#[from] RequestError),
}
