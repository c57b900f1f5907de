//! The paths of the sale page: pages, forms, embedded files, and the demo's two calls.
//!
//! Pages ignore their query: links to a sale carry trackers, and nothing hangs on them.
//! Everything else is as strict as the rest of the routes. Next: [`crate::site`].

use stampede_core::types::{ItemId, OrderId};

use super::ids::{item, order};
use crate::http::assets::{self, Asset};
use crate::http::head::Head;
use crate::http::line::Method;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// An endpoint of the sale page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SiteCall {
    /// `GET /`
    List,
    /// `GET /sale/{id}`
    Sale(ItemId),
    /// `POST /sale/{id}`: the form without JavaScript; `again` marks the second try of a
    /// client that was sent a session with the first.
    Buy {
        /// The item.
        item: ItemId,
        /// Whether a session was handed out already.
        again: bool,
    },
    /// `GET /sale/{id}/order/{order}`
    Order(OrderId),
    /// `POST /sale/{id}/order/{order}/cancel`
    Cancel(OrderId),
    /// `POST /sale/{id}/order/{order}/pay`, in the demo.
    Pay(OrderId),
    /// `GET /assets/{name}`
    Asset(&'static Asset),
    /// `GET /favicon.ico`
    Favicon,
    /// `POST /v1/demo/session`
    Session,
    /// `POST /v1/demo/orders/{id}/pay`
    PayOwn(OrderId),
}

impl SiteCall {
    /// Whether the endpoint needs no authentication.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::List | Self::Sale(_) | Self::Asset(_) | Self::Favicon | Self::Session)
    }
}

/// A path of the sale page, whatever the method.
pub(crate) enum SiteResource {
    List,
    Sale(ItemId),
    Order(OrderId),
    Cancel(OrderId),
    Pay(OrderId),
    Asset(&'static Asset),
    Favicon,
    Session,
    PayOwn(OrderId),
}

/// The query of the form's second try.
pub(crate) const AGAIN: &str = "again=1";

impl SiteResource {
    pub(super) fn find(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let parts = [(); 6].map(|()| parts.next());
        Some(match parts {
            [Some(""), None, ..] => Self::List,
            [Some("favicon.ico"), None, ..] => Self::Favicon,
            [Some("assets"), Some(_), None, ..] => Self::Asset(assets::find(path)?),
            [Some("sale"), Some(id), None, ..] => Self::Sale(item(id)?),
            [Some("sale"), Some(id), Some("order"), Some(of), None, _] => Self::Order(order_of(id, of)?),
            [Some("sale"), Some(id), Some("order"), Some(of), Some("cancel"), None] => {
                Self::Cancel(order_of(id, of)?)
            }
            [Some("sale"), Some(id), Some("order"), Some(of), Some("pay"), None] => {
                Self::Pay(order_of(id, of)?)
            }
            [Some("v1"), Some("demo"), Some("session"), None, ..] => Self::Session,
            [Some("v1"), Some("demo"), Some("orders"), Some(id), Some("pay"), None] => {
                Self::PayOwn(order(id)?)
            }
            _ => return None,
        })
    }

    /// The endpoint of this method at this resource.
    pub(super) fn call(self, head: &Head<'_>) -> Result<SiteCall, Problem> {
        let read = matches!(head.method, Method::Get | Method::Head);
        let post = head.method == Method::Post;
        let again = head.query == Some(AGAIN.as_bytes());
        let call = match self {
            Self::List if read => SiteCall::List,
            Self::Sale(item) if read => SiteCall::Sale(item),
            Self::Sale(item) if post && again => return Ok(SiteCall::Buy { item, again }),
            Self::Sale(item) if post => SiteCall::Buy { item, again },
            Self::Order(order) if read => SiteCall::Order(order),
            Self::Cancel(order) if post => SiteCall::Cancel(order),
            Self::Pay(order) if post => SiteCall::Pay(order),
            Self::Asset(asset) if read => SiteCall::Asset(asset),
            Self::Favicon if read => SiteCall::Favicon,
            Self::Session if post => SiteCall::Session,
            Self::PayOwn(order) if post => SiteCall::PayOwn(order),
            resource => return Err(Problem::not_allowed(resource.methods())),
        };
        if post {
            Query::strict(head.query.unwrap_or_default())?.only(&[])?;
        }
        Ok(call)
    }

    /// What `Allow` lists.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::Sale(_) => "GET, HEAD, POST, OPTIONS",
            Self::Cancel(_) | Self::Pay(_) | Self::Session | Self::PayOwn(_) => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

/// An order, if it is one of that item.
fn order_of(id: &str, of: &str) -> Option<OrderId> {
    let (id, order) = (item(id)?, order(of)?);
    (order.item() == id).then_some(order)
}
