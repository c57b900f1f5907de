//! The pages for buyers with a browser: the list of sales, an item, an order, a refusal.
//!
//! Pure: no socket, no clock, no engine. Pages are templates that escape all that they print;
//! their texts are in `net/templates/words`, one file for each language. The routes are in
//! [`crate::http::route::site`]; the file `site` of the engine's home answers them.
//!
//! Read in this order: [`words`] (the texts), [`render`] (the pages), [`html`] (how a page is
//! sent), [`form`] (what a form sends back), [`assets`] (style and script).

pub mod form;
pub mod format;
pub mod html;
pub mod render;
pub mod words;

pub use crate::http::assets;

/// The security headers of every HTML response: it loads and runs nothing from other origins,
/// cannot be framed, and tells other sites nothing of where a buyer came from.
///
/// `same-origin` and not `no-referrer`: under `no-referrer` a browser also hides the `Origin` of
/// a form, and older browsers have no other header that shows that the form is ours.
pub const SECURITY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; \
    style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: same-origin\r\n";
