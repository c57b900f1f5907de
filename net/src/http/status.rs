//! HTTP status codes, each with its status line.

macro_rules! statuses {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $phrase:literal,)+) => {
        /// The statuses that are answered.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Status { $($(#[$doc])* $variant),+ }

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
    /// 200
    Ok = 200 "OK",
    /// 201
    Created = 201 "Created",
    /// 202
    Accepted = 202 "Accepted",
    /// 204
    NoContent = 204 "No Content",
    /// 303
    SeeOther = 303 "See Other",
    /// 304
    NotModified = 304 "Not Modified",
    /// 307
    TemporaryRedirect = 307 "Temporary Redirect",
    /// 400
    BadRequest = 400 "Bad Request",
    /// 401
    Unauthorized = 401 "Unauthorized",
    /// 403
    Forbidden = 403 "Forbidden",
    /// 404
    NotFound = 404 "Not Found",
    /// 405
    MethodNotAllowed = 405 "Method Not Allowed",
    /// 409
    Conflict = 409 "Conflict",
    /// 412
    PreconditionFailed = 412 "Precondition Failed",
    /// 413
    BodyTooLarge = 413 "Content Too Large",
    /// 414
    TargetTooLong = 414 "URI Too Long",
    /// 415
    UnsupportedMediaType = 415 "Unsupported Media Type",
    /// 417
    ExpectationFailed = 417 "Expectation Failed",
    /// 422
    Unprocessable = 422 "Unprocessable Content",
    /// 429
    TooManyRequests = 429 "Too Many Requests",
    /// 431
    HeadersTooLarge = 431 "Request Header Fields Too Large",
    /// 500
    Internal = 500 "Internal Server Error",
    /// 501
    NotImplemented = 501 "Not Implemented",
    /// 503
    Unavailable = 503 "Service Unavailable",
    /// 505
    VersionNotSupported = 505 "HTTP Version Not Supported",
}
