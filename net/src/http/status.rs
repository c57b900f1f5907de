//! HTTP status codes, each with its status line.

macro_rules! statuses {
    ($($variant:ident = $number:literal $phrase:literal,)+) => {
        /// The statuses that are answered.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Status { $(#[doc = stringify!($number)] $variant),+ }

        impl Status {
            /// Its number.
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $number),+ }
            }
            pub(crate) const fn line(self) -> &'static str {
                match self { $(Self::$variant => concat!("HTTP/1.1 ", $number, " ", $phrase, "\r\n")),+ }
            }
        }
    };
}

statuses! {
    Ok = 200 "OK",
    Created = 201 "Created",
    Accepted = 202 "Accepted",
    NoContent = 204 "No Content",
    SeeOther = 303 "See Other",
    NotModified = 304 "Not Modified",
    TemporaryRedirect = 307 "Temporary Redirect",
    BadRequest = 400 "Bad Request",
    Unauthorized = 401 "Unauthorized",
    Forbidden = 403 "Forbidden",
    NotFound = 404 "Not Found",
    MethodNotAllowed = 405 "Method Not Allowed",
    Conflict = 409 "Conflict",
    PreconditionFailed = 412 "Precondition Failed",
    BodyTooLarge = 413 "Content Too Large",
    TargetTooLong = 414 "URI Too Long",
    UnsupportedMediaType = 415 "Unsupported Media Type",
    ExpectationFailed = 417 "Expectation Failed",
    Unprocessable = 422 "Unprocessable Content",
    TooManyRequests = 429 "Too Many Requests",
    HeadersTooLarge = 431 "Request Header Fields Too Large",
    Internal = 500 "Internal Server Error",
    NotImplemented = 501 "Not Implemented",
    Unavailable = 503 "Service Unavailable",
    VersionNotSupported = 505 "HTTP Version Not Supported",
}
