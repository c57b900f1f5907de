//! The request parser: any stream, cut anywhere, is to the server what it is to the second reader.
//!
//! The first two bytes say where it is cut; the rest is the stream, which may begin with the header of a proxy.

use stampede_net::http::proxy_header::{Flaw, ProxyHeader, Source};

use crate::compare;

/// Reads the stream with both readers, whole and cut.
///
/// # Panics
/// When they disagree, or the server does with itself.
pub fn check(data: &[u8]) {
    let Some((cuts, bytes)) = data.split_first_chunk::<2>() else { return };
    // The names of embedded files are no part of the grammar, and their paths take small bodies.
    if bytes.windows(8).any(|part| part == b"/assets/") {
        return;
    }
    let mut cuts = cuts.map(|cut| usize::from(cut) * (bytes.len() + 1) / 256);
    cuts.sort_unstable();
    compare::check(bytes, &cuts).unwrap_or_else(|why| panic!("{why}"));
    check_proxied(bytes, &cuts);
}

/// The same stream of a proxy: its header is the same however it is cut, and what stands behind is read alone.
fn check_proxied(bytes: &[u8], cuts: &[usize]) {
    let whole = proxied(bytes, &[]);
    assert_eq!(proxied(bytes, cuts), whole, "cut at {cuts:?}");
    if let Ok(Some((len, source))) = whole {
        assert_eq!(proxied(&bytes[..len], &[]), Ok(Some((len, source))), "it was read beyond its end");
        compare::check(&bytes[len..], &[]).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// The length of the header of a proxy and what it says; `None` = more is to come.
fn proxied(bytes: &[u8], cuts: &[usize]) -> Result<Option<(usize, Source)>, Flaw> {
    let (mut header, mut at) = (ProxyHeader::default(), 0);
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let (taken, source) = header.take(&bytes[at..end])?;
        at += taken;
        if let Some(source) = source {
            return Ok(Some((at, source)));
        }
        assert_eq!(at, end, "all of a piece belongs to a header that is not over");
    }
    Ok(None)
}

/// Requests of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "GET /v1/time HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nHEAD /v1/items/7?x=1 HTTP/1.0\r\nConnection: keep-alive, x\r\n\r\n",
        "POST /v1/items/7/orders HTTP/1.1\r\nHost: a:80\r\nX-Buyer: b\r\nIdempotency-Key: \"k\"\r\n\
         Prefer: respond-async\r\nContent-Length: 14\r\n\r\n{\"quantity\":1}",
        "POST /v1/items/7/ticket HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        "PUT /admin/items/7 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Length: 0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:7\r\n\r\n",
        "GET http://a%20b:1/x%41?y HTTP/1.1\r\nhost:a%20b:1\r\nCookie: a=b\r\nCookie: c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /sale/7 HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nSec-Fetch-Site: none\r\nContent-Length: 1\r\n\r\nx",
        "POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;a=\"b c\"\r\n{\"qua\r\n00009\r\nntity\":1}\r\n000;x\r\nX: y\r\nZ:\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n\
         1;a\r\n{\r\n01\r\n}\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /v1/orders/batch HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\n{\r\n1\nx",
        "GET /sale/7?utm=|{}[]^`\u{e4}#% HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET https://[::1]:7?x HTTP/1.1\r\nHost: b\r\n\r\n",
        "POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "DELETE /admin/blocklist/x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET",
        "POST /sale/7/order/30064771073/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        // What careless readers take, each with a request behind it.
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\nx",
        // What a proxy says first.
        "PROXY TCP4 192.0.2.7 10.0.0.1 50412 7070\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXY TCP6 2001:db8::1 ::1 1 0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROXY UNKNOWN x\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0dabcdefghijklxGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let cut = |(number, text): (usize, &str)| {
        let cuts = [(number * 37) as u8, (number * 91) as u8];
        [cuts.as_slice(), text.as_bytes()].concat()
    };
    texts.into_iter().enumerate().map(cut).collect()
}
