//! Routing: every endpoint of API.md, of the buyers' API and the merchant API, in one closed enum.
//!
//! Paths are compared byte by byte and never normalised, so that no two spellings reach one endpoint: a percent
//! sign outside of a subject is 404. Except for health checks, the paths of one API do not exist on the other.
//! Reads by buyers ignore unknown parameters, since links and browsers add their own; all other endpoints refuse
//! them. The paths of the sale page are in [`site`]. Next: [`crate::http::body`].

mod ids;
pub mod site;

use stampede_core::item::OrderState;
use stampede_core::limits::{ITEM_ID_MAX, UNIX_MILLIS_MAX};
use stampede_core::types::{ItemId, OrderId, Subject};

use crate::http::body::{IN_SECONDS, in_seconds};
use crate::http::chars::decimal;
use crate::http::cursor::{self, Age};
use crate::http::head::Head;
use crate::http::limits::{
    BATCH_BODY_BYTES_MAX, BODY_BYTES_MAX, BOOKS_ORDERS_MAX, BUY_BODY_BYTES_MAX, BUYER_LIST_DEFAULT,
    BUYER_LIST_MAX, DRAW_LIST_MAX, MERCHANT_LIST_DEFAULT, MERCHANT_LIST_MAX, PUBLIC_LIST_MAX, WAIT_MS_MAX,
};
use crate::http::line::Method;
use crate::http::problem::{Code, Problem};
use crate::http::query::{Query, decode_query_subject, decode_subject};
use crate::named::named;
use ids::{item, order};
use site::{SiteCall, SiteResource};

/// The API whose listener accepted a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    /// The buyers' API.
    Public,
    /// The merchant API.
    Merchant,
}

/// An endpoint, with the parameters from its path and query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// `GET /v1/time`
    Time,
    /// `GET /v1/items?limit=&after=`
    Items(ListQuery),
    /// `GET /v1/items/{id}`
    Item(ItemId),
    /// `GET /v1/items/{id}/challenge`
    Challenge(ItemId),
    /// `POST /v1/items/{id}/ticket`
    Ticket(ItemId),
    /// `GET /v1/items/{id}/draw?limit=&after=`
    Draw(DrawQuery),
    /// `POST /v1/items/{id}/orders`
    Buy(ItemId),
    /// `GET /v1/orders?order=&limit=&after=`
    Orders(OrdersQuery),
    /// `GET /v1/orders/{id}?wait_ms=`
    Order {
        /// Which.
        order: OrderId,
        /// How long to wait for it to leave `accepted`; 0 = not at all.
        wait_ms: u32,
    },
    /// `POST /v1/orders/{id}/cancel`
    CancelOrder(OrderId),
    /// An endpoint of the sale page.
    Site(SiteCall),
    /// `PUT /admin/items/{id}`
    PutItem(ItemId),
    /// `GET /admin/items?order=&limit=&after=`
    AdminItems(ItemsQuery),
    /// `GET /admin/items/{id}`
    AdminItem(ItemId),
    /// `POST /admin/items/{id}/restock`
    Restock(ItemId),
    /// `POST /admin/items/{id}/pause`
    PauseItem(ItemId),
    /// `POST /admin/items/{id}/resume`
    ResumeItem(ItemId),
    /// `POST /admin/items/{id}/close`
    CloseItem(ItemId),
    /// `GET /admin/items/{id}/books?after=&limit=&rows=`
    Books(BooksQuery),
    /// `POST /admin/items/{id}/mismatch`
    Mismatch(ItemId),
    /// `GET /admin/orders?item=&buyer=&state=&payment_ref=&from_ms=&to_ms=&order=&limit=&after=`
    AdminOrders(Box<AdminOrdersQuery>),
    /// `GET /admin/orders/{id}`
    AdminOrder(OrderId),
    /// `POST /admin/orders/{id}/pay`
    PayOrder(OrderId),
    /// `POST /admin/orders/{id}/refund`
    RefundOrder(OrderId),
    /// `POST /admin/orders/{id}/cancel`
    AdminCancelOrder(OrderId),
    /// `POST /admin/orders/{id}/extend`
    ExtendOrder(OrderId),
    /// `POST /v1/orders/batch`
    Batch,
    /// `GET /admin/blocklist?limit=&after=`
    Blocklist(BlocklistQuery),
    /// `PUT /admin/blocklist/{sub}`
    Block(Subject),
    /// `DELETE /admin/blocklist/{sub}`
    Unblock(Subject),
    /// `GET /admin/stats`
    Stats,
    /// `GET /admin/audit?limit=&after=`
    Audit(AuditQuery),
    /// `GET /metrics`
    Metrics,
    /// `GET /healthz`
    Healthz,
    /// `GET /readyz`
    Readyz,
    /// `GET /healthz` of the public listener: no reasons.
    PublicHealthz,
    /// `GET /readyz` of the public listener: no reasons.
    PublicReadyz,
    /// `OPTIONS` of a path, or of the server: the methods that it allows.
    Options(&'static str),
}

impl Route {
    /// Whether it is a health or monitoring endpoint.
    pub const fn is_about_the_engine(&self) -> bool {
        matches!(
            self,
            Self::Healthz
                | Self::Readyz
                | Self::PublicHealthz
                | Self::PublicReadyz
                | Self::Metrics
                | Self::Stats
                | Self::Time
                | Self::Options(_)
        )
    }

    /// Whether it is authenticated by the merchant's token alone.
    pub const fn needs_admin_token(&self) -> bool {
        match self {
            Self::PutItem(_) | Self::AdminItems(_) | Self::AdminItem(_) | Self::Restock(_) => true,
            Self::PauseItem(_) | Self::ResumeItem(_) | Self::CloseItem(_) | Self::Mismatch(_) => true,
            Self::Books(_) | Self::AdminOrders(_) | Self::AdminOrder(_) | Self::PayOrder(_) => true,
            Self::RefundOrder(_) | Self::AdminCancelOrder(_) | Self::ExtendOrder(_) | Self::Batch => true,
            Self::Blocklist(_) | Self::Block(_) | Self::Unblock(_) => true,
            Self::Stats | Self::Audit(_) => true,
            Self::Time | Self::Items(_) | Self::Item(_) | Self::Challenge(_) | Self::Ticket(_) => false,
            Self::Draw(_) | Self::Buy(_) | Self::Orders(_) | Self::Order { .. } => false,
            Self::CancelOrder(_) | Self::Site(_) | Self::Metrics | Self::Options(_) => false,
            Self::Healthz | Self::Readyz | Self::PublicHealthz | Self::PublicReadyz => false,
        }
    }
}

/// A page of all items, for the merchant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ItemsQuery {
    /// At most so many: 1 to 1000, 100 if not said.
    pub limit: u16,
    /// Only those after this one.
    pub after: Option<ItemId>,
    /// The highest number first.
    pub newest: bool,
}

/// A page of the buyers' list of items.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ListQuery {
    /// At most so many: 1 to 100, 100 if not said.
    pub limit: u16,
    /// Where it begins.
    pub after: ListAfter,
}

/// Where a page of the buyers' list begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ListAfter {
    /// At the first item.
    Start,
    /// After this position.
    Place(stampede_core::place::Place),
    /// After this item, wherever it stands now.
    Item(ItemId),
}

/// A page of the entries in an item's draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrawQuery {
    /// Which item.
    pub item: ItemId,
    /// At most so many: 1 to 1000, 1000 if not said.
    pub limit: u16,
    /// Only those after this one.
    pub after: Option<OrderId>,
}

/// A page of an item's books.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BooksQuery {
    /// Which item.
    pub item: ItemId,
    /// At most so many sequence numbers: 1 to 1000, 1000 if not said.
    pub limit: u16,
    /// Only orders with sequence numbers above this one.
    pub after: u32,
    /// Whether to list each order, not only their digest.
    pub rows: bool,
}

/// A page of a buyer's own orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OrdersQuery {
    /// At most so many: 1 to 200, 50 if not said.
    pub limit: u16,
    /// The sort order and the cursor.
    pub after: OrdersAfter,
}

/// The sort order of a buyer's orders, with the cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrdersAfter {
    /// By number, after this one.
    Oldest(Option<OrderId>),
    /// The newest first, after this one.
    Newest(Option<Age>),
}

/// A page of all orders, for the merchant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminOrdersQuery {
    /// Only of this item.
    pub item: Option<ItemId>,
    /// Only of this buyer.
    pub buyer: Option<Subject>,
    /// Only in this state.
    pub state: Option<OrderState>,
    /// Only with this payment reference.
    pub payment_ref: Option<Subject>,
    /// Only created at or after this time, in Unix milliseconds; 0 = any.
    pub from_ms: u64,
    /// Only created before this time, in Unix milliseconds; 0 = any.
    pub to_ms: u64,
    /// The newest first: of one item only.
    pub newest: bool,
    /// Only those with a payment that came too late and was not taken since.
    pub late_payments: bool,
    /// At most so many: 1 to 1000, 100 if not said.
    pub limit: u16,
    /// Only those after this one.
    pub after: Option<OrderId>,
}

/// A page of the blocked buyers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlocklistQuery {
    /// At most so many: 1 to 1000, 100 if not said.
    pub limit: u16,
    /// Only those after this one.
    pub after: Option<Subject>,
}

/// A page of the audit trail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditQuery {
    /// At most so many: 1 to 1000, 100 if not said.
    pub limit: u16,
    /// Only those after this LSN; 0 = from the first.
    pub after: u64,
    /// The newest first.
    pub newest: bool,
}

impl Route {
    /// The endpoint of a request, whose path is that of `resource`, or of none.
    ///
    /// # Errors
    /// `not_found`; `method_not_allowed` with the methods that are; `bad_request`
    /// for a query that the endpoint does not take. The connection stays usable after each of them.
    pub(crate) fn at(resource: Option<Resource>, head: &Head<'_>) -> Result<Self, Problem> {
        match resource {
            // An asterisk is the target of nothing else.
            None if head.path == "*" => Ok(Self::Options("GET, HEAD, POST, PUT, DELETE, OPTIONS")),
            None => Err(Code::NotFound.problem()),
            Some(resource) if head.method == Method::Options => Ok(Self::Options(resource.methods())),
            Some(Resource::ItemOrders(item)) if head.method == Method::Post && head.query.is_none() => {
                Ok(Self::Buy(item))
            }
            Some(Resource::Site(resource)) => resource.call(head).map(Self::Site),
            Some(resource) => {
                let query = head.query.unwrap_or_default();
                let query = if resource.is_lenient(head.method) {
                    Query::lenient(query)
                } else {
                    Query::strict(query)
                };
                resource.call(head.method, &query?)
            }
        }
    }

    /// Whether the endpoint needs no authentication.
    pub const fn is_open(&self) -> bool {
        match self {
            Self::Healthz | Self::Readyz | Self::Metrics | Self::Time | Self::Items(_) | Self::Item(_) => {
                true
            }
            Self::PublicHealthz | Self::PublicReadyz | Self::Options(_) => true,
            Self::Site(call) => call.is_open(),
            _ => false,
        }
    }
}

/// A path that exists, whatever the method.
pub(crate) enum Resource {
    Time,
    /// An item whose id is out of range.
    ItemBeyond,
    Items,
    Item(ItemId),
    ItemChallenge(ItemId),
    ItemTicket(ItemId),
    ItemDraw(ItemId),
    ItemOrders(ItemId),
    Orders,
    Order(OrderId),
    OrderCancel(OrderId),
    Site(SiteResource),
    AdminItems,
    AdminItem(ItemId),
    AdminItemVerb(ItemId, ItemVerb),
    AdminOrders,
    AdminOrder(OrderId),
    AdminOrderVerb(OrderId, OrderVerb),
    Batch,
    Blocked,
    /// A blocklist entry with a malformed subject.
    NoSubject,
    Blocklist(Subject),
    Stats,
    Audit,
    Metrics,
    Healthz,
    Readyz,
    PublicHealthz,
    PublicReadyz,
}

named! {
    pub(crate) enum ItemVerb {
        Restock = "restock",
        Pause = "pause",
        Resume = "resume",
        Close = "close",
        Books = "books",
        Mismatch = "mismatch",
    }
}

named! {
    pub(crate) enum OrderVerb {
        Pay = "pay",
        Refund = "refund",
        Cancel = "cancel",
        Extend = "extend",
    }
}

impl Resource {
    /// The resource at a path of a listener, if there is one.
    pub(crate) fn find(listener: Listener, path: &str) -> Option<Self> {
        if listener == Listener::Public
            && let Some(orders) = Self::find_item_orders(path)
        {
            return Some(orders);
        }
        let mut parts = path.strip_prefix('/')?.split('/');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next(), parts.next()];
        let found = Self::find_parts(listener, parts);
        match listener {
            _ if found.is_some() => found,
            _ if is_item_beyond(&parts) => {
                let [version, items, _, rest @ ..] = parts;
                let [verb, end] = rest;
                Self::find_parts(listener, [version, items, Some("1"), verb, end]).map(|_| Self::ItemBeyond)
            }
            Listener::Public => SiteResource::find(path).map(Self::Site),
            Listener::Merchant => None,
        }
    }

    fn find_parts(listener: Listener, parts: [Option<&str>; 5]) -> Option<Self> {
        match listener {
            Listener::Public => Self::find_public(parts),
            Listener::Merchant => Self::find_merchant(parts),
        }
    }

    /// Whether a request here is a batch, whose body is read piece by piece.
    pub(crate) fn is_batch(&self, method: Method) -> bool {
        method == Method::Post && matches!(self, Self::Batch)
    }

    /// The longest body that is taken here, in bytes. For purchases and forms of the
    /// sale page it is small.
    pub(crate) fn body_bytes_max(&self, method: Method) -> usize {
        match self {
            _ if self.is_batch(method) => BATCH_BODY_BYTES_MAX,
            Self::ItemOrders(_) | Self::ItemTicket(_) | Self::Site(_) => BUY_BODY_BYTES_MAX,
            _ => BODY_BYTES_MAX,
        }
    }

    /// The hottest paths of a sale, found without splitting the path.
    fn find_item_orders(path: &str) -> Option<Self> {
        let id = path.strip_prefix("/v1/items/")?.strip_suffix("/orders")?;
        item(id).map(Self::ItemOrders)
    }

    fn find_public(parts: [Option<&str>; 5]) -> Option<Self> {
        let rest = match parts {
            [Some("v1"), rest @ ..] => rest,
            [Some("healthz"), None, ..] => return Some(Self::PublicHealthz),
            [Some("readyz"), None, ..] => return Some(Self::PublicReadyz),
            _ => return None,
        };
        Some(match rest {
            [Some("time"), None, ..] => Self::Time,
            [Some("items"), None, ..] => Self::Items,
            [Some("items"), Some(id), None, _] => Self::Item(item(id)?),
            [Some("items"), Some(id), Some("challenge"), None] => Self::ItemChallenge(item(id)?),
            [Some("items"), Some(id), Some("ticket"), None] => Self::ItemTicket(item(id)?),
            [Some("items"), Some(id), Some("draw"), None] => Self::ItemDraw(item(id)?),
            [Some("items"), Some(id), Some("orders"), None] => Self::ItemOrders(item(id)?),
            [Some("orders"), None, ..] => Self::Orders,
            [Some("orders"), Some(id), None, _] => Self::Order(order(id)?),
            [Some("orders"), Some(id), Some("cancel"), None] => Self::OrderCancel(order(id)?),
            _ => return None,
        })
    }

    fn find_merchant(parts: [Option<&str>; 5]) -> Option<Self> {
        Some(match parts {
            [Some("metrics"), None, ..] => Self::Metrics,
            [Some("healthz"), None, ..] => Self::Healthz,
            [Some("readyz"), None, ..] => Self::Readyz,
            [Some("v1"), Some("orders"), Some("batch"), None, _] => Self::Batch,
            [Some("admin"), Some("stats"), None, ..] => Self::Stats,
            [Some("admin"), Some("audit"), None, ..] => Self::Audit,
            [Some("admin"), Some("blocklist"), None, ..] => Self::Blocked,
            [Some("admin"), Some("blocklist"), Some(sub), None, _] if !sub.is_empty() => {
                decode_subject(sub).map_or(Self::NoSubject, Self::Blocklist)
            }
            [Some("admin"), Some("items"), None, ..] => Self::AdminItems,
            [Some("admin"), Some("items"), Some(id), None, _] => Self::AdminItem(item(id)?),
            [Some("admin"), Some("items"), Some(id), Some(verb), None] => {
                Self::AdminItemVerb(item(id)?, ItemVerb::from_name(verb)?)
            }
            [Some("admin"), Some("orders"), None, ..] => Self::AdminOrders,
            [Some("admin"), Some("orders"), Some(id), None, _] => Self::AdminOrder(order(id)?),
            [Some("admin"), Some("orders"), Some(id), Some(verb), None] => {
                Self::AdminOrderVerb(order(id)?, OrderVerb::from_name(verb)?)
            }
            _ => return None,
        })
    }

    /// The endpoint of this method at this resource, with the query's parameters.
    fn call(self, method: Method, query: &Query<'_>) -> Result<Route, Problem> {
        let read = matches!(method, Method::Get | Method::Head);
        let route = match self {
            Self::ItemBeyond => return Err(Problem::invalid_field("item_id", ITEM_ID_RULE)),
            Self::NoSubject => return Err(Problem::invalid_field("sub", SUBJECT_RULE)),
            Self::ItemDraw(item) if read => return draw(item, query),
            Self::Orders if read => return orders(query),
            Self::Order(order) if read => return wait(order, query),
            Self::AdminOrders if read => return admin_orders(query),
            Self::Audit if read => return audit(query),
            Self::Blocked if read => return blocklist(query),
            Self::Time if read => Route::Time,
            Self::Items if read => return listed(query),
            Self::Item(item) if read => Route::Item(item),
            Self::ItemChallenge(item) if read => Route::Challenge(item),
            Self::AdminItems if read => return admin_items(query),
            Self::AdminItemVerb(item, ItemVerb::Books) if read => return books(item, query),
            Self::AdminItem(item) if read => Route::AdminItem(item),
            Self::AdminItem(item) if method == Method::Put => Route::PutItem(item),
            Self::AdminOrder(order) if read => Route::AdminOrder(order),
            Self::Stats if read => Route::Stats,
            Self::Metrics if read => Route::Metrics,
            Self::Healthz if read => Route::Healthz,
            Self::Readyz if read => Route::Readyz,
            Self::PublicHealthz if read => Route::PublicHealthz,
            Self::PublicReadyz if read => Route::PublicReadyz,
            Self::Blocklist(subject) if method == Method::Put => Route::Block(subject),
            Self::Blocklist(subject) if method == Method::Delete => Route::Unblock(subject),
            resource if method == Method::Post => resource.act()?,
            resource => return Err(Problem::not_allowed(resource.methods())),
        };
        query.only(&[])?;
        Ok(route)
    }

    /// The endpoint of POST at this resource.
    fn act(self) -> Result<Route, Problem> {
        Ok(match self {
            Self::ItemTicket(item) => Route::Ticket(item),
            Self::ItemOrders(item) => Route::Buy(item),
            Self::OrderCancel(order) => Route::CancelOrder(order),
            Self::AdminItemVerb(item, ItemVerb::Restock) => Route::Restock(item),
            Self::AdminItemVerb(item, ItemVerb::Pause) => Route::PauseItem(item),
            Self::AdminItemVerb(item, ItemVerb::Resume) => Route::ResumeItem(item),
            Self::AdminItemVerb(item, ItemVerb::Close) => Route::CloseItem(item),
            Self::AdminItemVerb(item, ItemVerb::Mismatch) => Route::Mismatch(item),
            Self::AdminOrderVerb(order, OrderVerb::Pay) => Route::PayOrder(order),
            Self::AdminOrderVerb(order, OrderVerb::Refund) => Route::RefundOrder(order),
            Self::AdminOrderVerb(order, OrderVerb::Cancel) => Route::AdminCancelOrder(order),
            Self::AdminOrderVerb(order, OrderVerb::Extend) => Route::ExtendOrder(order),
            Self::Batch => Route::Batch,
            resource => return Err(Problem::not_allowed(resource.methods())),
        })
    }

    /// Whether it is a read by buyers, whose links and browsers add parameters.
    fn is_lenient(&self, method: Method) -> bool {
        let reads = matches!(method, Method::Get | Method::Head);
        let is_public = matches!(
            self,
            Self::Time
                | Self::Items
                | Self::Item(_)
                | Self::ItemChallenge(_)
                | Self::ItemDraw(_)
                | Self::Orders
                | Self::Order(_)
                | Self::PublicHealthz
                | Self::PublicReadyz
        );
        reads && is_public
    }

    /// What `Allow` lists.
    const fn methods(&self) -> &'static str {
        match self {
            Self::Site(resource) => resource.methods(),
            Self::AdminItem(_) => "GET, HEAD, PUT, OPTIONS",
            Self::Blocklist(_) => "PUT, DELETE, OPTIONS",
            Self::AdminItemVerb(_, ItemVerb::Books) => "GET, HEAD, OPTIONS",
            Self::ItemTicket(_)
            | Self::ItemOrders(_)
            | Self::OrderCancel(_)
            | Self::AdminItemVerb(..)
            | Self::AdminOrderVerb(..)
            | Self::Batch => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }
}

const ITEM_ID_RULE: &str = "must be from 1 to 2147483647";
const SUBJECT_RULE: &str = "must be 1 to 255 bytes of UTF-8 without control characters, percent-encoded";
const _: () = assert!(ITEM_ID_MAX == 2_147_483_647);

/// Whether a path names an item by a number that is out of range. A 404
/// would send a shop that has such ids looking for the fault elsewhere.
fn is_item_beyond(parts: &[Option<&str>; 5]) -> bool {
    let [Some("v1" | "admin"), Some("items"), Some(id), ..] = *parts else { return false };
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    is_plain && (id == "0" || !id.starts_with('0')) && item(id).is_none()
}

/// An item's id in a query.
fn queried_item(query: &Query<'_>, name: &'static str) -> Result<Option<ItemId>, Problem> {
    match query.get(name) {
        Some(id) if is_item_beyond(&[Some("v1"), Some("items"), Some(id), None, None]) => {
            Err(Problem::invalid_field(name, ITEM_ID_RULE))
        }
        _ => query.parsed(name, item),
    }
}

fn listed(query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["limit", "after"])?;
    let limit = query.limit(PUBLIC_LIST_MAX, PUBLIC_LIST_MAX)?;
    let after =
        |text: &str| cursor::place(text).map(ListAfter::Place).or_else(|| item(text).map(ListAfter::Item));
    Ok(Route::Items(ListQuery { limit, after: query.parsed("after", after)?.unwrap_or(ListAfter::Start) }))
}

fn admin_items(query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["limit", "after", "order"])?;
    let limit = query.limit(PUBLIC_LIST_MAX, MERCHANT_LIST_MAX)?;
    Ok(Route::AdminItems(ItemsQuery { limit, after: query.parsed("after", item)?, newest: newest(query)? }))
}

fn books(item: ItemId, query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["after", "limit", "rows"])?;
    let limit = query.limit(BOOKS_ORDERS_MAX, BOOKS_ORDERS_MAX)?;
    let after = query.parsed("after", |text| number(text, u64::from(u32::MAX)))?.unwrap_or(0) as u32;
    let rows = query.parsed("rows", |text| text.parse().ok())?.unwrap_or(false);
    Ok(Route::Books(BooksQuery { item, limit, after, rows }))
}

fn orders(query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["limit", "after", "order"])?;
    let limit = query.limit(BUYER_LIST_DEFAULT, BUYER_LIST_MAX)?;
    let after = match newest(query)? {
        true => OrdersAfter::Newest(query.parsed("after", cursor::age)?),
        false => OrdersAfter::Oldest(query.parsed("after", order)?),
    };
    Ok(Route::Orders(OrdersQuery { limit, after }))
}

fn draw(item: ItemId, query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["limit", "after"])?;
    let limit = query.limit(DRAW_LIST_MAX, DRAW_LIST_MAX)?;
    Ok(Route::Draw(DrawQuery { item, limit, after: query.parsed("after", order)? }))
}

fn wait(order: OrderId, query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["wait_ms"])?;
    let wait_ms = query.parsed("wait_ms", |text| number(text, u64::from(WAIT_MS_MAX)))?.unwrap_or(0);
    Ok(Route::Order { order, wait_ms: wait_ms as u32 })
}

fn admin_orders(query: &Query<'_>) -> Result<Route, Problem> {
    const FILTERS: [&str; 6] = ["buyer", "state", "payment_ref", "from_ms", "to_ms", "order"];
    query.only(&[&FILTERS[..], &["item", "late_payments", "limit", "after"]].concat())?;
    let (item, newest) = (queried_item(query, "item")?, newest(query)?);
    if newest && item.is_none() {
        return Err(Problem::invalid_field("order", "newest is known of one item alone: say item, too"));
    }
    let late_payments = query.parsed("late_payments", |text| text.parse().ok())?.unwrap_or(false);
    if late_payments && FILTERS.iter().any(|name| query.get(name).is_some()) {
        return Err(Problem::invalid_field("late_payments", "goes with item, limit and after alone"));
    }
    Ok(Route::AdminOrders(Box::new(AdminOrdersQuery {
        item,
        buyer: query.parsed("buyer", decode_query_subject)?,
        state: query.parsed("state", OrderState::from_name)?,
        payment_ref: query.parsed("payment_ref", decode_query_subject)?,
        from_ms: time(query, "from_ms")?,
        to_ms: time(query, "to_ms")?,
        newest,
        late_payments,
        limit: query.limit(MERCHANT_LIST_DEFAULT, MERCHANT_LIST_MAX)?,
        after: query.parsed("after", order)?,
    })))
}

/// A time in Unix milliseconds; 0 if it is not said.
fn time(query: &Query<'_>, name: &'static str) -> Result<u64, Problem> {
    let ms = query.parsed(name, |text| number(text, UNIX_MILLIS_MAX))?.unwrap_or(0);
    match in_seconds(ms) {
        true => Err(Problem::invalid_field(name, IN_SECONDS)),
        false => Ok(ms),
    }
}

/// Whether to sort the newest first.
fn newest(query: &Query<'_>) -> Result<bool, Problem> {
    let order = |word: &str| match word {
        "newest" => Some(true),
        "oldest" => Some(false),
        _ => None,
    };
    Ok(query.parsed("order", order)?.unwrap_or(false))
}

fn blocklist(query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["limit", "after"])?;
    Ok(Route::Blocklist(BlocklistQuery {
        limit: query.limit(MERCHANT_LIST_DEFAULT, MERCHANT_LIST_MAX)?,
        after: query.parsed("after", decode_query_subject)?,
    }))
}

fn audit(query: &Query<'_>) -> Result<Route, Problem> {
    query.only(&["limit", "after", "order"])?;
    let limit = query.limit(MERCHANT_LIST_DEFAULT, MERCHANT_LIST_MAX)?;
    let after = query.parsed("after", |text| number(text, u64::MAX))?.unwrap_or(0);
    Ok(Route::Audit(AuditQuery { limit, after, newest: newest(query)? }))
}

fn number(text: &str, max: u64) -> Option<u64> {
    decimal(text.as_bytes()).filter(|&value| value <= max)
}
