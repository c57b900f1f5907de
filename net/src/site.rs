//! The sale page: what a buyer with a browser sees, as values into bytes.
//!
//! Pure: no socket, no clock, no engine. Pages are filled templates in which every text
//! is escaped by its type; what a page may say is in [`words`], in each language. The
//! calls that lead here are in [`crate::http::route::site`], what the engine answers them
//! with is the part `site` of its home.
//!
//! Read in this order: [`words`] (what is said), [`render`] (how it looks), [`html`]
//! (how it is sent), [`form`] (what comes back), [`assets`] (style and script).

pub mod form;
pub mod format;
pub mod html;
pub mod render;
pub mod words;

pub use crate::http::assets;

/// The lines of every HTML answer that keep it to itself: nothing from elsewhere is loaded,
/// run, framed or told.
///
/// The referrer stays within the site, rather than nowhere at all: under `no-referrer` a
/// browser also hides the `Origin` of a form, by which an old one shows that the form is ours.
pub const SECURITY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: same-origin\r\n";
