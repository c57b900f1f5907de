//! Tokens, gateway headers, the merchant's token, idempotency keys.

use std::net::IpAddr;

use stampede_core::types::{HashSecret, UnixMillis};
use stampede_net::http::conn::{Conn, Next};
use stampede_net::http::head::Head;
use stampede_net::http::route::Listener;
use stampede_net::identity::address::AddressHeader;
use stampede_net::identity::key::{IdentityKey, KeyError};
use stampede_net::identity::mint::{Claims, MintKey};
use stampede_net::identity::rules::TokenRules;
use stampede_net::identity::{Identity, IdentityError, VerdictCache, check_admin};

const NOW_S: u64 = 1_700_000_000;
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
/// RFC 8032 section 7.1, test 1: the private key, and the public one.
const ED_PRIVATE: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const ED_PUBLIC: &str = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// Parses a request with these header lines, and passes on its head.
fn with_head<T>(lines: &str, look: impl FnOnce(&Head<'_>) -> T) -> T {
    let raw = format!("GET /v1/time HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let mut conn = Conn::new(Listener::Public, 0);
    let mut rest = raw.as_bytes();
    while !rest.is_empty() {
        let taken = conn.feed(rest, 0);
        rest = &rest[taken..];
        if let Next::Request(request) = conn.next() {
            return look(&request.head);
        }
    }
    panic!("must be a valid request: {raw}")
}

fn hs() -> MintKey {
    MintKey::hs256("k1", SECRET).expect("a key")
}

fn ed() -> MintKey {
    MintKey::parse("k2", "EdDSA", ED_PRIVATE).expect("a key")
}

fn identity() -> Identity {
    let keys = vec![
        IdentityKey::hs256("k1", SECRET).expect("a key"),
        IdentityKey::parse("k2", "EdDSA", ED_PUBLIC).expect("a key"),
    ];
    Identity::jwt(keys, Vec::new()).expect("two keys")
}

fn identify_at(identity: &Identity, lines: &str, now_ms: u64, cache: &mut VerdictCache) -> String {
    let outcome = with_head(lines, |head| identity.identify(head, UnixMillis(now_ms), HOME, cache));
    match outcome {
        Ok(buyer) => {
            let since = buyer.since_s.map(|since| format!(" since {since}")).unwrap_or_default();
            format!("{:?} level {}{since}", buyer.subject, buyer.level)
        }
        Err(problem) => format!("{}: {}", problem.code.name(), problem.detail.unwrap_or_default()),
    }
}

fn identify(lines: &str) -> String {
    identify_at(&identity(), lines, NOW_S * 1_000, &mut VerdictCache::new(HashSecret([3; 16])))
}

fn shown(token: &str) -> String {
    identify(&format!("Authorization: Bearer {token}\r\n"))
}

fn is_stranger(outcome: &str) -> bool {
    outcome.starts_with("unauthenticated")
}

fn claims(sub: &str) -> Claims<'_> {
    Claims { sub, exp_s: NOW_S + 60, ..Claims::default() }
}

#[test]
fn minted_tokens_are_taken() {
    for key in [hs(), ed()] {
        let full = Claims { nbf_s: Some(NOW_S), level: Some(255), since_s: Some(5), ..claims("bob") };
        assert_eq!(shown(&key.mint(&full).expect("claims")), "bob level 255 since 5");
        assert_eq!(shown(&key.mint(&claims("a \" \\ ä")).expect("claims")), "a \\\" \\\\ \\xc3\\xa4 level 0");
        let longest = "s".repeat(255);
        assert_eq!(shown(&key.mint(&claims(&longest)).expect("claims")), format!("{longest} level 0"));
        assert!(key.mint(&claims(&"s".repeat(256))).is_err());
        assert!(key.mint(&claims("")).is_err());
        assert!(key.mint(&claims("a\nb")).is_err());
    }
}

#[test]
fn signatures_are_those_of_the_rfcs() {
    // RFC 8037 appendix A.4.
    assert_eq!(
        ed().sign(br#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing"),
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
         hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
    // RFC 7515 appendix A.1.
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = MintKey::parse("k", "HS256", secret).expect("a key");
    let header = b"{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}";
    let payload = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
    let token = key.sign(header, payload);
    assert!(token.ends_with(".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "{token}");
    // Valid, except for its missing subject.
    let identity = Identity::jwt(vec![IdentityKey::parse("k", "HS256", secret).expect("a key")], vec![]);
    let line = format!("Authorization: Bearer {token}\r\n");
    let outcome =
        identify_at(&identity.expect("a key"), &line, 0, &mut VerdictCache::new(HashSecret([3; 16])));
    assert_eq!(outcome, "unauthenticated: a claim of the token is missing or malformed");
}

#[test]
fn times_are_exact() {
    let at = |key: &MintKey, exp_s, nbf_s, now_ms| {
        let token = key.mint(&Claims { exp_s, nbf_s, ..claims("bob") }).expect("claims");
        identify_at(
            &identity(),
            &format!("Authorization: Bearer {token}\r\n"),
            now_ms,
            &mut VerdictCache::new(HashSecret([3; 16])),
        )
    };
    for key in [hs(), ed()] {
        assert_eq!(at(&key, 100, None, 99_999), "bob level 0");
        assert_eq!(at(&key, 100, None, 100_000), "unauthenticated: the token has expired");
        assert_eq!(at(&key, 100, None, 101_000), "unauthenticated: the token has expired");
        // The issuer's clock may be half a minute ahead.
        assert_eq!(at(&key, 100, Some(50), 20_000), "bob level 0");
        assert_eq!(at(&key, 100, Some(50), 19_999), "unauthenticated: the token is not valid yet");
        assert_eq!(at(&key, u64::MAX, None, u64::MAX - 1), "bob level 0");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    for key in [hs(), ed()] {
        let token = key.mint(&claims("bob")).expect("claims");
        for at in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if bytes[at].is_ascii_graphic() {
                    let damaged = String::from_utf8(bytes).expect("ASCII");
                    assert!(is_stranger(&shown(&damaged)), "bit {bit} of byte {at}: {damaged}");
                }
            }
        }
        for len in 0..token.len() {
            assert!(is_stranger(&shown(&token[..len])), "cut to {len}");
            assert!(is_stranger(&shown(&token[len + 1..])), "first {len} cut off");
        }
        for suffix in ["=", "==", ".", "A", "AA", ".a", " x", ","] {
            assert!(is_stranger(&shown(&format!("{token}{suffix}"))), "{suffix:?} behind");
        }
    }
}

#[test]
fn the_last_character_of_a_signature_has_one_spelling() {
    // 32 bytes of HMAC leave two bits of the last character unused: three more
    // characters decode to the same bytes if nobody looks.
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let token = hs().mint(&claims("bob")).expect("claims");
    let (begin, last) = token.split_at(token.len() - 1);
    let taken =
        ALPHABET.iter().filter(|&&byte| !is_stranger(&shown(&format!("{begin}{}", byte as char)))).count();
    assert_eq!((taken, shown(&format!("{begin}{last}")).as_str()), (1, "bob level 0"));
}

const GOOD_HEADER: &str = r#"{"alg":"HS256","kid":"k1"}"#;

#[test]
fn headers_of_tokens() {
    let payload = format!(r#"{{"sub":"bob","exp":{}}}"#, NOW_S + 60);
    let good = [
        GOOD_HEADER,
        r#"{"typ":"JWT","kid":"k1","alg":"HS256"}"#,
        r#" {"alg":"HS256","kid":"k1","jku":"x","x5c":[1]} "#,
    ];
    for header in good {
        assert_eq!(shown(&hs().sign(header.as_bytes(), payload.as_bytes())), "bob level 0", "{header}");
    }
    let bad = [
        r#"{"alg":"none","kid":"k1"}"#,
        r#"{"alg":"None","kid":"k1"}"#,
        r#"{"alg":"","kid":"k1"}"#,
        r#"{"alg":"hs256","kid":"k1"}"#,
        r#"{"alg":"HS384","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1"}"#,
        r#"{"alg":"EdDSA","kid":"k1"}"#,
        r#"{"alg":"HS256","kid":"k2"}"#,
        r#"{"alg":"HS256","kid":"k3"}"#,
        r#"{"alg":"HS256","kid":""}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"kid":"k1"}"#,
        r#"{"alg":null,"kid":"k1"}"#,
        r#"{"alg":["HS256"],"kid":"k1"}"#,
        r#"{"alg":"HS256","alg":"none","kid":"k1"}"#,
        r#"{"alg":"HS256","\u0061lg":"none","kid":"k1"}"#,
        r#"{"alg":"HS\u003256","kid":"k1"}"#,
        r#"{"alg":"HS256","kid":"k1","crit":["exp"]}"#,
        r#"{"alg":"HS256","kid":"k1","b64":false}"#,
        r#"{"alg":"HS256","kid":"k1"}x"#,
        r#"["HS256"]"#,
        "",
    ];
    for header in bad {
        assert!(is_stranger(&shown(&hs().sign(header.as_bytes(), payload.as_bytes()))), "{header}");
    }
    // The public key as an HMAC secret: the oldest trick.
    let public = MintKey::parse("k2", "HS256", ED_PUBLIC).expect("32 bytes");
    for header in [r#"{"alg":"HS256","kid":"k2"}"#, r#"{"alg":"EdDSA","kid":"k2"}"#] {
        assert!(is_stranger(&shown(&public.sign(header.as_bytes(), payload.as_bytes()))), "{header}");
    }
    let unsigned = hs().sign(br#"{"alg":"none"}"#, payload.as_bytes());
    let (unsigned, _) = unsigned.rsplit_once('.').expect("three parts");
    assert!(is_stranger(&shown(&format!("{unsigned}."))) && is_stranger(&shown(unsigned)));
    let long = format!(r#"{{"alg":"HS256","kid":"k1","x":"{}"}}"#, "x".repeat(600));
    assert!(is_stranger(&shown(&hs().sign(long.as_bytes(), payload.as_bytes()))));
}

#[test]
fn claims_of_tokens() {
    let show = |payload: &str| shown(&hs().sign(GOOD_HEADER.as_bytes(), payload.as_bytes()));
    let good = [
        (r#"{"sub":"bob","exp":1700000001}"#, "bob level 0"),
        (r#"{"exp":1700000001,"sub":"b\u00f6b","lvl":0,"since":0}"#, "b\\xc3\\xb6b level 0 since 0"),
        (
            r#"{"sub":"bob","exp":1700000001,"iss":"x","aud":["a",{"b":1.5e3}],"iat":17e8,"name":"\u0041"}"#,
            "bob level 0",
        ),
        // NumericDate of RFC 7519 is any JSON number.
        (r#"{"sub":"bob","exp":1700000001.5}"#, "bob level 0"),
        (r#"{"sub":"bob","exp":1.700000001e9,"nbf":1699999999.123456}"#, "bob level 0"),
        (r#"{"sub":"bob","exp":1700000000.001,"nbf":-1,"since":1.5}"#, "bob level 0 since 1"),
        (r#"{"sub":"bob","exp":1700000001,"nbf":1700000030}"#, "bob level 0"),
    ];
    for (payload, expected) in good {
        assert_eq!(show(payload), expected, "{payload}");
    }
    let bad = [
        r#"{"exp":1700000001}"#,
        r#"{"sub":"bob"}"#,
        r#"{"sub":"","exp":1700000001}"#,
        r#"{"sub":5,"exp":1700000001}"#,
        r#"{"sub":null,"exp":1700000001}"#,
        r#"{"sub":"a\u0000b","exp":1700000001}"#,
        r#"{"sub":"a\nb","exp":1700000001}"#,
        r#"{"sub":"a\u007fb","exp":1700000001}"#,
        r#"{"sub":"a\u0085b","exp":1700000001}"#,
        r#"{"sub":"\ud800","exp":1700000001}"#,
        r#"{"sub":"bob","exp":"1700000001"}"#,
        r#"{"sub":"bob","exp":1700000000.0009}"#,
        r#"{"sub":"bob","exp":1700000001,"nbf":1700000030.0001}"#,
        r#"{"sub":"bob","exp":17e8}"#,
        r#"{"sub":"bob","exp":1700000001000}"#,
        r#"{"sub":"bob","exp":1e400}"#,
        r#"{"sub":"bob","exp":1700000001,"iat":1.5}"#,
        r#"{"sub":"bob","exp":1700000001,"iat":"1700000000"}"#,
        r#"{"sub":"bob","exp":-1}"#,
        r#"{"sub":"bob","exp":99999999999999999999}"#,
        r#"{"sub":"bob","exp":null}"#,
        r#"{"sub":"bob","exp":1700000001,"nbf":"0"}"#,
        r#"{"sub":"bob","exp":1700000001,"lvl":256}"#,
        r#"{"sub":"bob","exp":1700000001,"lvl":-1}"#,
        r#"{"sub":"bob","exp":1700000001,"lvl":"1"}"#,
        r#"{"sub":"bob","exp":1700000001,"since":-1.5}"#,
        r#"{"sub":"bob","sub":"eve","exp":1700000001}"#,
        r#"{"sub":"bob","s\u0075b":"eve","exp":1700000001}"#,
        r#"{"sub":"bob","exp":1,"exp":1700000001}"#,
        r#"{"sub":"bob","exp":1700000001} "x""#,
        "\u{feff}{\"sub\":\"bob\",\"exp\":1700000001}",
        "null",
        "",
    ];
    for payload in bad {
        assert!(is_stranger(&show(payload)), "{payload}");
    }
    let sub_of = |len: usize| format!(r#"{{"sub":"{}","exp":1700000001}}"#, "ä".repeat(len));
    assert!(
        !is_stranger(&show(&sub_of(127))) && is_stranger(&show(&sub_of(128))),
        "255 bytes, not characters"
    );
    assert!(is_stranger(&shown(
        &hs().sign(GOOD_HEADER.as_bytes(), b"{\"sub\":\"\xff\",\"exp\":1700000001}")
    )));
}

/// Every time in a token is in seconds: in milliseconds it is refused, whichever it is, and in
/// seconds it is accepted.
#[test]
fn times_of_tokens_are_in_seconds() {
    let show = |times: &str| {
        let claims = format!(r#"{{"sub":"bob",{times}}}"#);
        shown(&hs().sign(GOOD_HEADER.as_bytes(), claims.as_bytes()))
    };
    let seconds = r#""exp":1700000060,"nbf":1700000000,"iat":1700000000,"since":1600000000"#;
    assert_eq!(show(seconds), "bob level 0 since 1600000000");
    for name in ["exp", "nbf", "iat", "since"] {
        let start = seconds.find(name).expect("a claim") + name.len() + 2;
        let (before, after) = (&seconds[..start + 10], &seconds[start + 10..]);
        for more in ["000", "000.5", "123"] {
            let times = format!("{before}{more}{after}");
            assert!(is_stranger(&show(&times)), "{times}");
        }
        let times = format!("{before}.75{after}");
        assert_eq!(show(&times), "bob level 0 since 1600000000", "{times}");
    }
}

/// Claims as issuers write them, and the rules that an operator sets.
#[test]
fn rules_of_tokens() {
    let rules = TokenRules {
        audience: vec!["https://shop.example/".to_owned(), "app".to_owned()],
        issuer: vec!["https://id.example".to_owned()],
        nbf_leeway_ms: 2_000,
        exp_leeway_ms: 3_000,
        life_max_ms: 3_600_000,
    };
    let ruled = identity().with_rules(rules);
    let cache = || VerdictCache::new(HashSecret([3; 16]));
    let show_at = |now_ms: u64, payload: &str| {
        let token = hs().sign(GOOD_HEADER.as_bytes(), payload.as_bytes());
        identify_at(&ruled, &format!("Authorization: Bearer {token}\r\n"), now_ms, &mut cache())
    };
    let show = |fields: &str| show_at(NOW_S * 1_000, &format!("{{\"sub\":\"bob\",{fields}}}"));
    const YES: &str = "bob level 0";
    const OTHER_AUDIENCE: &str = "unauthenticated: the token is for another audience";
    const OTHER_ISSUER: &str = "unauthenticated: the token is from another issuer";
    const TOO_LONG: &str = "unauthenticated: the token is valid for too long; exp and iat are in seconds";
    const MALFORMED: &str = "unauthenticated: a claim of the token is missing or malformed";
    let good = r#""exp":1700000060,"iss":"https://id.example","aud":"#;
    for (aud, expected) in [
        (r#""app""#, YES),
        (r#"["app"]"#, YES),
        (r#"[ "else" , "https:\/\/shop.example\/" ]"#, YES),
        (r#""https://shop.example""#, OTHER_AUDIENCE),
        (r#""App""#, OTHER_AUDIENCE),
        ("\"\"", OTHER_AUDIENCE),
        ("[]", OTHER_AUDIENCE),
        (r#"["ap","p"]"#, OTHER_AUDIENCE),
        (r#"["app",5]"#, MALFORMED),
        (r#"{"app":1}"#, MALFORMED),
        ("null", MALFORMED),
    ] {
        assert_eq!(show(&format!("{good}{aud}")), expected, "{aud}");
    }
    assert_eq!(show(r#""exp":1700000060,"iss":"https://id.example""#), OTHER_AUDIENCE, "no aud at all");
    for (iss, expected) in [
        (r#""https:\/\/id.example""#, YES),
        (r#""https://id.example/""#, OTHER_ISSUER),
        (r#"["https://id.example"]"#, MALFORMED),
    ] {
        assert_eq!(show(&format!(r#""exp":1700000060,"aud":"app","iss":{iss}"#)), expected, "{iss}");
    }
    assert_eq!(show(r#""exp":1700000060,"aud":"app""#), OTHER_ISSUER, "no iss at all");
    let at = |now_ms, times: &str| {
        show_at(now_ms, &format!(r#"{{"sub":"bob","aud":"app","iss":"https://id.example",{times}}}"#))
    };
    assert_eq!(at(102_999, r#""exp":100"#), YES);
    assert_eq!(at(103_000, r#""exp":100"#), "unauthenticated: the token has expired");
    assert_eq!(at(48_000, r#""exp":100,"nbf":50"#), YES);
    assert_eq!(at(47_999, r#""exp":100,"nbf":50"#), "unauthenticated: the token is not valid yet");
    assert_eq!(at(10_000, r#""exp":3612"#), YES, "the bound, and the leeway of a clock that is behind");
    assert_eq!(at(10_000, r#""exp":3612.001"#), TOO_LONG);
    assert_eq!(
        at(5_000_000, r#""exp":5001,"iat":1300"#),
        TOO_LONG,
        "near its end, and too long all the same"
    );
    assert_eq!(at(5_000_000, r#""exp":5001,"iat":1500"#), YES);
    assert_eq!(at(10_000, r#""exp":100,"iat":50"#), YES, "issued a little later than now");
    // A verified token is remembered with its leeways.
    let claims = br#"{"sub":"bob","aud":"app","iss":"https://id.example","exp":100}"#;
    let line = format!("Authorization: Bearer {}\r\n", hs().sign(GOOD_HEADER.as_bytes(), claims));
    let mut remembers = cache();
    for (now_ms, taken) in [(99_000, true), (102_999, true), (103_000, false)] {
        let outcome = identify_at(&ruled, &line, now_ms, &mut remembers);
        assert_eq!(!is_stranger(&outcome), taken, "{now_ms}: {outcome}");
    }
    // A kid with PHP's escaped slashes.
    let key = |kid: &str| IdentityKey::hs256(kid, SECRET).expect("a key");
    let two = Identity::jwt(vec![key("keys/1"), key("k9")], vec![]).expect("two keys");
    let token = hs().sign(br#"{"alg":"HS256","kid":"keys\/1"}"#, br#"{"sub":"bob","exp":1700000060}"#);
    let line = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(identify_at(&two, &line, NOW_S * 1_000, &mut cache()), YES);
}

#[test]
fn authorization_headers() {
    let token = hs().mint(&claims("bob")).expect("claims");
    for line in [format!("Bearer {token}"), format!("bearer {token}"), format!("BEARER {token}")] {
        assert_eq!(identify(&format!("Authorization: {line}\r\n")), "bob level 0");
    }
    let bad = [
        String::new(),
        "Bearer".to_owned(),
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer  {token}"),
        format!("Bearer\t{token}"),
        format!("Bearer \"{token}\""),
        format!("Bearer {token},{token}"),
        format!("Bearer {}", "x".repeat(5_000)),
        format!("Bearer {}.{}.{}", "x".repeat(2_000), "y".repeat(1_900), "z".repeat(86)),
    ];
    for line in bad {
        assert!(is_stranger(&identify(&format!("Authorization: {line}\r\n"))), "{line}");
    }
    assert!(is_stranger(&identify("")));
    let twice = format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n");
    assert!(is_stranger(&identify(&twice)));
    assert!(is_stranger(&identify("X-Buyer: bob\r\n")), "that header counts in header mode alone");
}

#[test]
fn a_remembered_verdict_ends_with_the_token() {
    let identity = identity();
    let mut cache = VerdictCache::new(HashSecret([3; 16]));
    let token = hs().mint(&Claims { nbf_s: Some(NOW_S), ..claims("bob") }).expect("claims");
    let line = format!("Authorization: Bearer {token}\r\n");
    let mut at = |now_ms| identify_at(&identity, &line, now_ms, &mut cache);
    assert_eq!(at(NOW_S * 1_000), "bob level 0");
    assert_eq!(at((NOW_S + 60) * 1_000 - 1), "bob level 0");
    assert!(is_stranger(&at((NOW_S + 60) * 1_000)));
    assert_eq!(at(NOW_S * 1_000 - 30_000), "bob level 0", "within the leeway");
    assert!(is_stranger(&at(NOW_S * 1_000 - 30_001)), "the clock was put back");
    assert_eq!(at(NOW_S * 1_000), "bob level 0");
    // Another token on the same connection is another buyer; an invalid one is nobody.
    let other = hs().mint(&claims("eve")).expect("claims");
    assert_eq!(
        identify_at(&identity, &format!("Authorization: Bearer {other}\r\n"), NOW_S * 1_000, &mut cache),
        "eve level 0"
    );
    assert!(is_stranger(&identify_at(
        &identity,
        &format!("Authorization: Bearer {other}x\r\n"),
        NOW_S * 1_000,
        &mut cache
    )));
    assert_eq!(identify_at(&identity, &line, NOW_S * 1_000, &mut cache), "bob level 0");
}

#[test]
fn keys() {
    let parse = |kid: &str, alg: &str, material: &str| {
        IdentityKey::parse(kid, alg, material).map(|key| key.kid().to_owned())
    };
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert_eq!(parse("k", "HS256", secret).as_deref(), Ok("k"));
    assert_eq!(parse("k", "HS256", secret.trim_end_matches('=')).as_deref(), Ok("k"));
    assert_eq!(parse("k", "HS256", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZQ=="), Err(KeyError::Short));
    assert_eq!(parse("k", "HS256", ""), Err(KeyError::Short));
    assert_eq!(parse("k", "HS256", "not base64!"), Err(KeyError::Base64));
    assert_eq!(parse("k", "HS512", secret), Err(KeyError::Algorithm));
    assert_eq!(parse("k", "none", ""), Err(KeyError::Algorithm));
    assert_eq!(parse("", "HS256", secret), Err(KeyError::Kid));
    assert_eq!(parse("a b", "HS256", secret), Err(KeyError::Kid));
    assert_eq!(parse("a\"", "HS256", secret), Err(KeyError::Kid));
    assert_eq!(parse("k", "EdDSA", ED_PUBLIC).as_deref(), Ok("k"));
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";
    assert_eq!(parse("k", "EdDSA", pem).as_deref(), Ok("k"));
    assert_eq!(parse("k", "EdDSA", &pem.replace("PUBLIC", "PRIVATE")), Err(KeyError::Public));
    assert_eq!(parse("k", "EdDSA", "MDEyMw=="), Err(KeyError::Public));
    let weak = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(parse("k", "EdDSA", weak), Err(KeyError::Public));
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----";
    let mint = MintKey::parse("k2", "EdDSA", private).expect("a key");
    assert_eq!(shown(&mint.mint(&claims("bob")).expect("claims")), "bob level 0");
    assert!(
        !format!("{:?}{:?}", hs(), IdentityKey::hs256("k", SECRET)).contains("0123"),
        "secrets are not shown"
    );

    let key = || IdentityKey::hs256("k1", SECRET).expect("a key");
    assert_eq!(Identity::jwt(vec![], vec![]).err(), Some(IdentityError::NoKeys));
    assert_eq!(
        Identity::jwt(vec![key(), key()], vec![]).err(),
        Some(IdentityError::KidTwice("k1".to_owned()))
    );
    // A single key needs no `kid` in the token.
    let alone = Identity::jwt(vec![key()], vec![]).expect("a key");
    let token = hs().sign(br#"{"alg":"HS256"}"#, br#"{"sub":"bob","exp":1700000001}"#);
    let line = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(
        identify_at(&alone, &line, NOW_S * 1_000, &mut VerdictCache::new(HashSecret([3; 16]))),
        "bob level 0"
    );
    assert!(is_stranger(&identify(&line)), "with two it does");
}

#[test]
fn the_header_of_a_gateway() {
    let open: IpAddr = "0.0.0.0".parse().expect("an address");
    let gateway: IpAddr = "10.1.2.3".parse().expect("an address");
    let nets = || vec!["10.0.0.0/8".parse().expect("a network")];
    assert_eq!(Identity::header(open, vec![]).err(), Some(IdentityError::NobodyToTrust(open)));
    let local = Identity::header(HOME, vec![]).expect("loopback");
    let behind = Identity::header(open, nets()).expect("a gateway");
    let named = |identity: &Identity, peer: IpAddr, lines: &str| {
        let outcome = with_head(lines, |head| {
            identity.identify(head, UnixMillis(0), peer, &mut VerdictCache::new(HashSecret([3; 16])))
        });
        outcome.map_or("stranger".to_owned(), |buyer| format!("{:?} {}", buyer.subject, buyer.level))
    };
    assert_eq!(named(&local, HOME, "X-Buyer: bob\r\n"), "bob 0");
    assert_eq!(named(&local, gateway, "X-Buyer: bob\r\n"), "stranger");
    assert_eq!(named(&behind, HOME, "X-Buyer: bob\r\n"), "stranger");
    assert_eq!(named(&behind, gateway, "x-buyer:bob\r\nX-Buyer-Level: 7\r\n"), "bob 7");
    let mapped = "::ffff:10.1.2.3".parse().expect("an address");
    assert_eq!(named(&behind, mapped, "X-Buyer: bob\r\n"), "bob 0");
    let (longest, too_long) = ("s".repeat(255), "s".repeat(256));
    assert_eq!(named(&local, HOME, &format!("X-Buyer: {longest}\r\n")), format!("{longest} 0"));
    let bad = [
        String::new(),
        "X-Buyer:\r\n".to_owned(),
        format!("X-Buyer: {too_long}\r\n"),
        "X-Buyer: a b\r\n".to_owned(),
        "X-Buyer: a\tb\r\n".to_owned(),
        "X-Buyer: a\u{85}b\r\n".to_owned(),
        "X-Buyer: bob\r\nX-Buyer: bob\r\n".to_owned(),
        "X-Buyer: bob\r\nX-Buyer-Level: 256\r\n".to_owned(),
        "X-Buyer: bob\r\nX-Buyer-Level: -1\r\n".to_owned(),
        "X-Buyer: bob\r\nX-Buyer-Level: 01\r\n".to_owned(),
        "X-Buyer: bob\r\nX-Buyer-Level:\r\n".to_owned(),
        "X-Buyer: bob\r\nX-Buyer-Level: 1\r\nX-Buyer-Level: 1\r\n".to_owned(),
    ];
    for lines in bad {
        assert_eq!(named(&local, HOME, &lines), "stranger", "{lines}");
    }
    // Two subjects that look alike are two buyers.
    assert_ne!(named(&local, HOME, "X-Buyer: bob\r\n"), named(&local, HOME, "X-Buyer: Bob\r\n"));
    assert_ne!(named(&local, HOME, "X-Buyer: \u{e9}\r\n"), named(&local, HOME, "X-Buyer: e\u{301}\r\n"));
}

#[test]
fn addresses_of_clients() {
    let nets = || vec!["10.0.0.0/8".parse().expect("a network")];
    let behind = Identity::header("0.0.0.0".parse().expect("an address"), nets()).expect("a gateway");
    let seen = |peer: &str, lines: &str| {
        with_head(lines, |head| behind.client_ip(head, peer.parse().expect("an address"))).to_string()
    };
    assert_eq!(seen("1.2.3.4", ""), "1.2.3.4");
    assert_eq!(seen("1.2.3.4", "X-Forwarded-For: 9.9.9.9\r\n"), "1.2.3.4", "not from a stranger");
    assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 9.9.9.9\r\n"), "9.9.9.9");
    assert_eq!(
        seen("10.0.0.1", "X-Forwarded-For: 8.8.8.8, 9.9.9.9\r\n"),
        "9.9.9.9",
        "the client may lie in front"
    );
    assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 9.9.9.9, 10.7.7.7\r\n"), "9.9.9.9");
    assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-For: 9.9.9.9\r\n"), "9.9.9.9");
    assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 9.9.9.9, unknown\r\n"), "10.0.0.1");
    assert_eq!(seen("10.0.0.1", "X-Forwarded-For: 2001:db8::1\r\n"), "2001:db8::1");
    assert_eq!(seen("::ffff:10.0.0.1", "X-Forwarded-For: 9.9.9.9\r\n"), "9.9.9.9");
    assert_eq!(seen("10.0.0.1", "X-Forwarded-For:\r\n"), "10.0.0.1");
}

#[test]
fn proxy_headers_are_expected_of_named_proxies_alone() {
    let nets = || vec!["10.0.0.0/8".parse().expect("a network")];
    let key = IdentityKey::hs256("k", SECRET).expect("a key");
    let tokens = Identity::jwt(vec![key], nets()).expect("a key");
    let expects = |identity: &Identity, listener, peer: &str| {
        identity.expects_proxy_header(listener, peer.parse().expect("an address"))
    };
    assert!(!expects(&tokens, Listener::Public, "10.0.0.1"), "only on request");
    let tokens = tokens.with_proxy_protocol(true);
    assert!(expects(&tokens, Listener::Public, "10.0.0.1"));
    assert!(expects(&tokens, Listener::Public, "::ffff:10.0.0.1"));
    assert!(!expects(&tokens, Listener::Merchant, "10.0.0.1"));
    for stranger in ["192.0.2.1", "127.0.0.1", "::1"] {
        assert!(!expects(&tokens, Listener::Public, stranger), "{stranger}");
    }
    // A proxy that passes bytes on would let anybody name buyers.
    let gateway = Identity::header("0.0.0.0".parse().expect("an address"), nets()).expect("a gateway");
    assert!(!expects(&gateway.with_proxy_protocol(true), Listener::Public, "10.0.0.1"));
}

/// The client behind a trusted proxy; with a `?` if it is not known and the proxy's address counts.
#[test]
fn addresses_as_proxies_pass_them_on() {
    let nets = || vec!["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")];
    let seen = |header: AddressHeader, lines: &str| {
        let identity = Identity::header("0.0.0.0".parse().expect("an address"), nets()).expect("a gateway");
        let identity = identity.with_address_header(header);
        let client = with_head(lines, |head| identity.client(head, "10.0.0.1".parse().expect("an address")));
        format!("{}{}", client.ip, if client.is_known { "" } else { "?" })
    };
    let lines = |name: &str, values: &[&str]| -> String {
        values.iter().map(|value| format!("{name}: {value}\r\nX-Other: 1.1.1.1\r\n")).collect()
    };
    use AddressHeader as H;
    let table: &[(H, &[&str], &str)] = &[
        // HAProxy adds a line, others append to the last one; all lines form one list.
        (H::XForwardedFor, &["9.9.9.9", "10.7.7.7"], "9.9.9.9"),
        (H::XForwardedFor, &["8.8.8.8, 9.9.9.9", "10.7.7.7, 10.6.6.6"], "9.9.9.9"),
        (H::XForwardedFor, &["8.8.8.8", "9.9.9.9", "10.7.7.7", "10.6.6.6"], "9.9.9.9"),
        (H::XForwardedFor, &["9.9.9.9", "", " , ,"], "9.9.9.9"),
        (H::XForwardedFor, &["10.8.8.8", "10.7.7.7"], "10.8.8.8"),
        (H::XForwardedFor, &["10.0.0.1"], "10.0.0.1"),
        (H::XForwardedFor, &["9.9.9.9:51234, 10.7.7.7:80"], "9.9.9.9"),
        (H::XForwardedFor, &["[2001:db8::9]:443, [fd00::1]"], "2001:db8::9"),
        (H::XForwardedFor, &["2001:db8::9"], "2001:db8::9"),
        (H::XForwardedFor, &["9.9.9.9, unknown", "10.7.7.7"], "10.7.7.7?"),
        (H::XForwardedFor, &[], "10.0.0.1?"),
        (H::XForwardedFor, &["unknown"], "10.0.0.1?"),
        (H::Forwarded, &["for=9.9.9.9;proto=https;by=10.0.0.1"], "9.9.9.9"),
        (H::Forwarded, &["for=8.8.8.8, For=\"9.9.9.9:4711\"", "proto=http; for=10.7.7.7"], "9.9.9.9"),
        (H::Forwarded, &["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (H::Forwarded, &["for=9.9.9.9;host=\"a,b\""], "9.9.9.9"),
        (H::Forwarded, &["for=9.9.9.9, for=_hidden"], "10.0.0.1?"),
        (H::Forwarded, &["for=unknown"], "10.0.0.1?"),
        (H::Forwarded, &["by=9.9.9.9"], "10.0.0.1?"),
        (H::Forwarded, &["for=8.8.8.8;for=9.9.9.9"], "10.0.0.1?"),
        (H::XRealIp, &["9.9.9.9"], "9.9.9.9"),
        (H::XRealIp, &["8.8.8.8", "9.9.9.9"], "10.0.0.1?"),
        (H::XRealIp, &["8.8.8.8, 9.9.9.9"], "10.0.0.1?"),
        (H::CfConnectingIp, &["2001:db8::9"], "2001:db8::9"),
        (H::TrueClientIp, &["9.9.9.9:5"], "9.9.9.9"),
    ];
    for (header, values, expected) in table {
        for name in [header.name().to_owned(), header.name().to_lowercase()] {
            assert_eq!(seen(*header, &lines(&name, values)), *expected, "{name}: {values:?}");
        }
        // Headers other than the chosen one are ignored.
        for other in AddressHeader::ALL.iter().filter(|other| *other != header) {
            assert_eq!(seen(*other, &lines(header.name(), values)), "10.0.0.1?", "{header:?} for {other:?}");
        }
    }
}

#[test]
fn the_merchants_token() {
    let admin = |lines: &str, token: &[u8]| with_head(lines, |head| check_admin(head, token).is_ok());
    assert!(admin("Authorization: Bearer s3cret-s3cret-s3cret\r\n", b"s3cret-s3cret-s3cret"));
    for shown in
        ["s3cret-s3cret-s3cres", "s3cret-s3cret-s3cre", "s3cret-s3cret-s3crett", "S3cret-s3cret-s3cret", "x"]
    {
        assert!(!admin(&format!("Authorization: Bearer {shown}\r\n"), b"s3cret-s3cret-s3cret"), "{shown}");
    }
    assert!(!admin("", b"s3cret"));
    assert!(!admin("Authorization: Bearer \r\n", b""));
    assert!(!admin("Authorization: Bearer x\r\n", b""));
    assert!(!admin("Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret\r\n", b"s3cret"));
}

#[test]
fn idempotency_keys() {
    let key = |lines: &str| {
        with_head(lines, |head| match head.idempotency_key() {
            Ok(None) => "none".to_owned(),
            Ok(Some(key)) => key.escape_ascii().to_string(),
            Err(problem) => problem.code.name().to_owned(),
        })
    };
    let longest = "k".repeat(255);
    let table = [
        (String::new(), "none"),
        ("Idempotency-Key: abc\r\n".to_owned(), "abc"),
        ("idempotency-key:abc\r\n".to_owned(), "abc"),
        ("Idempotency-Key: \"abc\"\r\n".to_owned(), "abc"),
        ("Idempotency-Key: !#,;=~'\r\n".to_owned(), "!#,;=~\\'"),
        ("Idempotency-Key: a\\b\r\n".to_owned(), "a\\\\b"),
        (format!("Idempotency-Key: {longest}\r\n"), &longest),
        (format!("Idempotency-Key: \"{longest}\"\r\n"), &longest),
        (format!("Idempotency-Key: {longest}k\r\n"), "bad_header"),
        (format!("Idempotency-Key: \"{longest}k\"\r\n"), "bad_header"),
        ("Idempotency-Key:\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: \"\"\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: \"\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: \"abc\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: abc\"\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: a\"b\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: \"a\"b\"\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: \"a\\\"b\"\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: \"a\\b\"\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: a b\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: a\tb\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: ä\r\n".to_owned(), "bad_header"),
        ("Idempotency-Key: a\r\nIdempotency-Key: a\r\n".to_owned(), "bad_header"),
    ];
    for (lines, expected) in table {
        assert_eq!(key(&lines), expected, "{lines}");
    }
    let prefers = |lines: &str| with_head(lines, |head| head.prefers_async);
    assert!(
        prefers("Prefer: respond-async\r\n") && prefers("Prefer: a\r\nPrefer: RESPOND-ASYNC; x=1, b\r\n")
    );
    assert!(
        !prefers("Prefer: wait=10\r\n") && !prefers("Prefer: respond-asynchronously\r\n") && !prefers("")
    );
}

/// The buyer of a request with these lines, whose token may be in the cookie `shop`.
fn by_cookie(method: &str, lines: &str) -> String {
    let raw =
        format!("{method} /v1/orders HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n{lines}\r\n");
    let mut conn = Conn::new(Listener::Public, 0);
    conn.feed(raw.as_bytes(), 0);
    let Next::Request(request) = conn.next() else { panic!("must be a valid request: {raw}") };
    let identity = identity().with_cookie("shop");
    match identity.identify(
        &request.head,
        UnixMillis(NOW_S * 1_000),
        HOME,
        &mut VerdictCache::new(HashSecret([3; 16])),
    ) {
        Ok(buyer) => format!("{:?}", buyer.subject),
        Err(problem) => problem.code.name().to_owned(),
    }
}

#[test]
fn a_token_may_come_in_the_cookie() {
    let token = hs().mint(&claims("bob")).expect("claims");
    let other = hs().mint(&claims("eve")).expect("claims");
    for jar in [
        format!("shop={token}"),
        format!("shop=\"{token}\""),
        format!("a=b; shop={token}"),
        format!("shop={token};a=b; shopper=x; SHOP=y"),
    ] {
        assert_eq!(by_cookie("GET", &format!("Cookie: {jar}\r\n")), "bob", "{jar}");
    }
    for lines in [
        "Cookie: a=b\r\n".to_owned(),
        "Cookie: shop=\r\n".to_owned(),
        "Cookie: shop\r\n".to_owned(),
        format!("Cookie: shop={token}x\r\n"),
        format!("Cookie: Shop={token}\r\n"),
        format!("Cookie: xshop={token}\r\n"),
        format!("Cookie: shop={token}; shop={token}\r\n"),
        format!("Cookie: shop={token}\r\nCookie: shop={token}\r\n"),
        // An explicit header counts, even if it is wrong.
        format!("Authorization: Basic x\r\nCookie: shop={token}\r\n"),
    ] {
        assert_eq!(by_cookie("GET", &lines), "unauthenticated", "{lines}");
    }
    let both = format!("Authorization: Bearer {other}\r\nCookie: shop={token}\r\n");
    assert_eq!(by_cookie("GET", &both), "eve");
    // Without the setting, a cookie is ignored.
    assert!(is_stranger(&identify(&format!("Cookie: shop={token}\r\n"))));
}

#[test]
fn a_cookie_does_not_act_for_foreign_pages() {
    let token = hs().mint(&claims("bob")).expect("claims");
    let posts = |lines: &str| by_cookie("POST", &format!("Cookie: shop={token}\r\n{lines}"));
    for ours in [
        "Sec-Fetch-Site: same-origin\r\n",
        "Origin: http://shop.example\r\n",
        "Origin: https://shop.example\r\n",
        "Origin: https://SHOP.example\r\n",
        "Origin: null\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        assert_eq!(posts(ours), "bob", "{ours}");
    }
    for foreign in [
        "",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://shop.example\r\n",
        "Origin: null\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: https://shop.example.evil\r\n",
        "Origin: https://shop.example:444\r\n",
        "Origin: ftp://shop.example\r\n",
        "Origin: shop.example\r\n",
        "Origin: https://\r\n",
        "Origin: https://shop.example\r\nOrigin: https://shop.example\r\n",
        "Referer: https://shop.example/\r\n",
    ] {
        assert_eq!(posts(foreign), "cross_site", "{foreign}");
    }
    // A token in the header is sent on purpose.
    let header = format!("Authorization: Bearer {token}\r\nSec-Fetch-Site: cross-site\r\n");
    assert_eq!(by_cookie("POST", &header), "bob");
    assert_eq!(by_cookie("PUT", &format!("Cookie: shop={token}\r\n")), "cross_site");
}

#[test]
fn a_cookie_counts_in_no_other_mode() {
    let identity = Identity::header(HOME, Vec::new()).expect("loopback").with_cookie("shop");
    let token = hs().mint(&claims("bob")).expect("claims");
    let outcome = identify_at(
        &identity,
        &format!("Cookie: shop={token}\r\n"),
        0,
        &mut VerdictCache::new(HashSecret([3; 16])),
    );
    assert!(is_stranger(&outcome), "{outcome}");
}
