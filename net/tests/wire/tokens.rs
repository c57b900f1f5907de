//! Tokens of buyers: flipped, cut, expired, signed by others, and the games with `alg`.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD as BASE64};
use stampede_net::identity::Identity;
use stampede_net::identity::key::IdentityKey;
use stampede_net::identity::mint::{Claims, MintKey};
use stampede_net::identity::rules::TokenRules;

use crate::case::Case;
use crate::engine::Engine;

const YES: &str = "201 confirmed";
const NOBODY: &str = "401 unauthenticated";
/// Seconds in the year 2100, long after any test.
const FAR_S: u64 = 4_102_444_800;
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const RETIRED: &[u8; 32] = b"fedcba9876543210fedcba9876543210";
/// RFC 8032 section 7.1, test 1: the private key, and the public one.
const ED_PRIVATE: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const ED_PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// Two keys, one of each algorithm.
pub(crate) fn identity() -> Identity {
    let keys = vec![
        IdentityKey::hs256("k1", SECRET).expect("a key"),
        IdentityKey::parse("k2", "EdDSA", ED_PUBLIC).expect("a key"),
    ];
    // The tokens of this table are good until 2100.
    let rules = TokenRules { life_max_ms: (FAR_S + 1) * 1_000, ..TokenRules::default() };
    Identity::jwt(keys, Vec::new()).expect("two keys").with_cookie("session").with_rules(rules)
}

fn hs() -> MintKey {
    MintKey::hs256("k1", SECRET).expect("a key")
}

fn ed() -> MintKey {
    MintKey::parse("k2", "EdDSA", ED_PRIVATE).expect("a key")
}

fn claims(sub: &str) -> Claims<'_> {
    Claims { sub, exp_s: FAR_S, ..Claims::default() }
}

/// A good token for this buyer.
pub(crate) fn of(sub: &str) -> String {
    hs().mint(&claims(sub)).expect("claims")
}

/// A purchase with these header lines.
fn with_lines(lines: &str) -> Vec<u8> {
    format!("POST /v1/items/7/orders HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 2\r\n\r\n{{}}").into()
}

fn with_token(token: &str) -> Vec<u8> {
    with_lines(&format!("Authorization: Bearer {token}\r\n"))
}

/// A case with a token that the engine's time and the run's number make.
fn case(verdict: &str, token: impl Fn(&Engine, u64) -> String + 'static) -> Case {
    Case::made(verdict, move |engine, run| with_token(&token(engine, run)))
}

/// A case with a token that is always the same.
fn refused(token: String) -> Case {
    case(NOBODY, move |_, _| token.clone())
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = times();
    cases.extend(damaged());
    cases.extend(headers());
    cases.extend(payloads());
    cases.extend(schemes());
    cases
}

/// The second before and the second after.
fn times() -> Vec<Case> {
    let at = |verdict, exp_s: fn(u64) -> u64, nbf_s: fn(u64) -> Option<u64>| {
        case(verdict, move |engine, run| {
            let (now_s, sub) = (engine.now().0 / 1_000, format!("b{run:07}"));
            let claims = Claims { sub: &sub, exp_s: exp_s(now_s), nbf_s: nbf_s(now_s), ..Claims::default() };
            hs().mint(&claims).expect("claims")
        })
    };
    vec![
        case(YES, |_, run| of(&format!("b{run:07}"))),
        case(YES, |_, run| ed().mint(&claims(&format!("b{run:07}"))).expect("claims")),
        at(YES, |now_s| now_s + 100, |_| None),
        at(YES, |now_s| now_s + 100, Some),
        at(YES, |now_s| now_s + 100, |now_s| Some(now_s + 10)),
        at(NOBODY, |_| u64::MAX, |_| Some(0)),
        at(NOBODY, |now_s| (now_s + 100) * 1_000, |_| None),
        at(NOBODY, |now_s| now_s - 1, |_| None),
        at(NOBODY, |now_s| now_s, |_| None),
        at(NOBODY, |now_s| now_s + 100, |now_s| Some(now_s + 50)),
        at(NOBODY, |_| 0, |_| None),
    ]
}

/// Bits flipped, ends cut off, other spellings of the same bytes.
fn damaged() -> Vec<Case> {
    let mut cases = Vec::new();
    for token in [of("victim"), ed().mint(&claims("victim")).expect("claims")] {
        let dots: Vec<usize> = token.match_indices('.').map(|(at, _)| at).collect();
        for at in [0, dots[0] - 1, dots[0] + 1, dots[1] - 1, dots[1] + 1, token.len() - 1] {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            cases.push(refused(String::from_utf8(bytes).expect("text")));
        }
        for len in [1, dots[0], dots[0] + 1, dots[1], dots[1] + 1, dots[1] + 9, token.len() - 1] {
            cases.push(refused(token[..len].to_owned()));
        }
        let (signed, signature) = token.split_at(dots[1] + 1);
        let bytes = BASE64.decode(signature).expect("base64");
        // The last character holds bits that say nothing: one of its other spellings.
        let last = signature.as_bytes()[signature.len() - 1];
        let sibling = char::from(if last.is_ascii_alphabetic() { last + 1 } else { last - 1 });
        cases.push(refused(format!("{signed}{}{sibling}", &signature[..signature.len() - 1])));
        cases.push(refused(format!("{signed}{}", BASE64_URL_SAFE.encode(&bytes))));
        cases.push(refused(format!("{signed}{}", BASE64.encode(&bytes[..16]))));
        cases.push(refused(format!("{signed}{}", BASE64.encode([bytes.as_slice(), &[0]].concat()))));
        cases.push(refused(format!("{signed}{}", BASE64.encode(vec![0; bytes.len()]))));
        let standard = BASE64_STANDARD_NO_PAD.encode(&bytes);
        if standard != signature {
            cases.push(refused(format!("{signed}{standard}")));
        }
        cases.push(refused(token.replacen('.', "..", 1)));
        cases.push(refused(format!("{token}.")));
        cases.push(refused(format!(".{token}")));
        cases.push(refused(format!("{token} {token}")));
        cases.push(refused(format!("{token},{token}")));
        // Somebody else's claims under this signature.
        let other = of("thief");
        let claims = other.split('.').nth(1).expect("three parts");
        cases.push(refused(format!("{}.{claims}.{signature}", &token[..dots[0]])));
    }
    cases
}

/// What a header must not choose.
fn headers() -> Vec<Case> {
    const PAYLOAD: &[u8] = br#"{"sub":"victim","exp":4102444800}"#;
    let hs_headers = [
        r#"{"alg":"none","kid":"k1"}"#,
        r#"{"alg":"None","kid":"k1"}"#,
        r#"{"alg":"hs256","kid":"k1"}"#,
        r#"{"alg":"HS384","kid":"k1"}"#,
        r#"{"alg":"HS512","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1"}"#,
        r#"{"alg":"EdDSA","kid":"k1"}"#,
        r#"{"alg":"HS256","kid":"k2"}"#,
        r#"{"alg":"HS256","kid":"k3"}"#,
        r#"{"alg":"HS256","kid":"K1"}"#,
        r#"{"alg":"HS256","kid":""}"#,
        r#"{"alg":"HS256","kid":"../k1"}"#,
        r#"{"alg":"HS256","kid":null}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"kid":"k1"}"#,
        r#"{}"#,
        r#"[]"#,
        r#""#,
        r#"{"alg":"HS256","alg":"none","kid":"k1"}"#,
        r#"{"alg":"none","alg":"HS256","kid":"k1"}"#,
        r#"{"alg":"HS256","kid":"k1","kid":"k1"}"#,
        r#"{"alg":"HS256","kid":"k1","crit":["exp"]}"#,
        r#"{"alg":"HS256","kid":"k1","b64":false}"#,
        r#"{"alg":["HS256"],"kid":"k1"}"#,
        r#"{"\u0061lg":"HS256","kid":"k1"}"#,
        r#"{"alg":"HS\u003256","kid":"k1"}"#,
    ];
    let mut cases: Vec<Case> = hs_headers.map(|header| refused(hs().sign(header.as_bytes(), PAYLOAD))).into();
    // The public key as the secret of an HMAC; no signature; a key that is not ours any more.
    let public = BASE64_URL_SAFE.decode(ED_PUBLIC.replace('/', "_")).expect("base64");
    let confused = MintKey::hs256("k2", &public).expect("long enough");
    cases.push(refused(confused.mint(&claims("victim")).expect("claims")));
    let bare = |header: &str| format!("{}.{}.", BASE64.encode(header), BASE64.encode(PAYLOAD));
    cases.push(refused(bare(r#"{"alg":"none"}"#)));
    cases.push(refused(bare(r#"{"alg":"HS256","kid":"k1"}"#)));
    for (kid, secret) in [("k1", RETIRED), ("k0", RETIRED), ("k0", SECRET), ("k2", SECRET)] {
        let key = MintKey::hs256(kid, secret).expect("a key");
        cases.push(refused(key.mint(&claims("victim")).expect("claims")));
    }
    cases.push(case(YES, |_, run| {
        let payload = format!(r#"{{"sub":"b{run:07}","exp":4102444800}}"#);
        hs().sign(br#"{"typ":"at+jwt","kid":"k1","alg":"HS256","x5u":"http://evil"}"#, payload.as_bytes())
    }));
    cases
}

/// Signed well, and still not to be believed.
fn payloads() -> Vec<Case> {
    const HEADER: &[u8] = br#"{"alg":"HS256","kid":"k1"}"#;
    let long = format!(r#"{{"sub":"{}","exp":4102444800}}"#, "s".repeat(256));
    let payloads: [&[u8]; 26] = [
        b"",
        b"{}",
        b"[]",
        br#"{"exp":4102444800}"#,
        br#"{"sub":"victim"}"#,
        br#"{"sub":"","exp":4102444800}"#,
        br#"{"sub":7,"exp":4102444800}"#,
        br#"{"sub":null,"exp":4102444800}"#,
        br#"{"sub":["victim"],"exp":4102444800}"#,
        br#"{"sub":"a\u0000b","exp":4102444800}"#,
        br#"{"sub":"a\nb","exp":4102444800}"#,
        b"{\"sub\":\"\xff\",\"exp\":4102444800}",
        br#"{"sub":"\ud800","exp":4102444800}"#,
        br#"{"sub":"victim","sub":"thief","exp":4102444800}"#,
        br#"{"sub":"thief","s\u0075b":"victim","exp":4102444800}"#,
        br#"{"sub":"victim","exp":4102444800,"exp":4102444800}"#,
        br#"{"sub":"victim","exp":"4102444800"}"#,
        br#"{"sub":"victim","exp":4102444800,"iat":"0"}"#,
        br#"{"sub":"victim","exp":-1}"#,
        br#"{"sub":"victim","exp":null}"#,
        br#"{"sub":"victim","exp":18446744073709551616}"#,
        br#"{"sub":"victim","exp":4102444800,"nbf":"0"}"#,
        br#"{"sub":"victim","exp":4102444800,"lvl":256}"#,
        br#"{"sub":"victim","exp":4102444800,"lvl":"1"}"#,
        br#"{"sub":"victim","exp":4102444800,"since":-1}"#,
        br#"{"sub":"victim","exp":4102444800}x"#,
    ];
    let signed = |payload: &[u8]| refused(hs().sign(HEADER, payload));
    let mut cases: Vec<Case> = payloads.iter().map(|payload| signed(payload)).collect();
    cases.push(signed(long.as_bytes()));
    // Times as issuers write them.
    for times in [r#""exp":4102444800.0"#, r#""exp":4e9"#, r#""exp":4102444800.25,"nbf":-1,"iat":1.5"#] {
        cases.push(case(YES, move |_, run| {
            hs().sign(HEADER, format!(r#"{{"sub":"b{run:07}",{times}}}"#).as_bytes())
        }));
    }
    cases.push(case(YES, |_, run| {
        let payload = format!(r#"{{"sub":"b\u0022{run:07}","exp":4102444800,"lvl":255,"since":0,"x":[1]}}"#);
        hs().sign(HEADER, payload.as_bytes())
    }));
    cases
}

/// How a token is shown.
fn schemes() -> Vec<Case> {
    let lines = |verdict, lines: fn(&str) -> String| {
        Case::made(verdict, move |_, run| with_lines(&lines(&of(&format!("b{run:07}")))))
    };
    vec![
        lines(YES, |token| format!("authorization: bEARER {token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: Bearer  {token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: Bearer\t{token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: {token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: Basic {token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: Bearer{token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: Bearer \"{token}\"\r\n")),
        lines(NOBODY, |token| format!("Authorization: Bearer {token}, Bearer {token}\r\n")),
        lines(NOBODY, |token| format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n")),
        lines(NOBODY, |_| "Authorization: Bearer \r\n".into()),
        lines(NOBODY, |_| format!("Authorization: Bearer {}\r\n", "A".repeat(4_097))),
        lines(NOBODY, |_| String::new()),
        lines(NOBODY, |_| "X-Buyer: victim\r\n".into()),
        lines(NOBODY, |token| format!("Proxy-Authorization: Bearer {token}\r\n")),
        // In a cookie it counts only where a page of ours has sent the request.
        lines(YES, |token| format!("Cookie: session={token}\r\nSec-Fetch-Site: same-origin\r\n")),
        lines("403 cross_site", |token| format!("Cookie: session={token}\r\n")),
        lines("403 cross_site", |token| {
            format!("Cookie: session={token}\r\nSec-Fetch-Site: cross-site\r\nOrigin: http://a\r\n")
        }),
        lines(NOBODY, |token| format!("Cookie: session={token}; session={token}\r\nOrigin: http://a\r\n")),
        lines(NOBODY, |token| format!("Cookie: Session={token}\r\nOrigin: http://a\r\n")),
    ]
}
