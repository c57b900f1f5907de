//! The command line as a record keeps it: as it was given, without what is secret.
//!
//! Tokens and keys come in files, but a password may stand in a URL and a token in a
//! header line; reports are mailed around. Next: [`crate::record`].

/// What stands in the place of a secret.
const BLOT: &str = "***";
/// A header or a setting whose name contains one of these may hold a secret.
const SECRET_WORDS: [&str; 7] = ["auth", "cookie", "token", "secret", "passw", "key", "session"];

/// The arguments without passwords in URLs and without the values of headers that may be secret.
pub fn without_secrets(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut after_header = false;
    let each = args.into_iter().map(|arg| {
        let header = std::mem::replace(&mut after_header, arg == "-H" || arg == "--header");
        match arg.strip_prefix("--header=").or_else(|| arg.strip_prefix("-H")) {
            _ if header => without_secret(&arg),
            Some(line) if !line.is_empty() => {
                let flag = &arg[..arg.len() - line.len()];
                format!("{flag}{}", without_secret(line))
            }
            _ => without_password(&arg),
        }
    });
    each.collect()
}

/// A header line, `Name: value`, whose value is blotted out if the name says that it may be secret.
pub(super) fn without_secret(line: &str) -> String {
    let Some((name, _)) = line.split_once(':') else { return line.to_owned() };
    let lower = name.to_ascii_lowercase();
    // An idempotency key is no secret, but nobody needs it either.
    if SECRET_WORDS.iter().any(|word| lower.contains(word)) {
        format!("{name}: {BLOT}")
    } else {
        line.to_owned()
    }
}

/// `scheme://user:password@host` without the password, and `password=…` of a connection text.
fn without_password(text: &str) -> String {
    if let Some((scheme, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let text = match authority.rsplit_once('@').map(|(user, _)| (user, user.split_once(':'))) {
            Some((user, Some((name, _)))) => format!("{scheme}://{name}:{BLOT}{}", &rest[user.len()..]),
            _ => text.to_owned(),
        };
        return without_setting(&text);
    }
    without_setting(text)
}

fn without_setting(text: &str) -> String {
    let Some(at) = text.find("password=") else { return text.to_owned() };
    let begin = at + "password=".len();
    let end = text[begin..].find([' ', '&']).map_or(text.len(), |length| begin + length);
    format!("{}{BLOT}{}", &text[..begin], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_get_into_a_record() {
        let secret = "hunter2";
        for args in [
            vec!["-H", "Authorization: Bearer hunter2"],
            vec!["-HCookie: a=hunter2"],
            vec!["--header=X-Api-Key: hunter2"],
            vec!["--header", "x-auth: hunter2"],
            vec!["--postgres", "postgres://shop:hunter2@db/shop?x=y"],
            vec!["--postgres=postgres://shop:hun@ter2hunter2@db/shop"],
            vec!["--postgres", "host=db password=hunter2 user=x"],
            vec!["--postgres", "postgres://db/shop?user=x&password=hunter2&y=z"],
        ] {
            let kept = without_secrets(args.iter().map(|&arg| arg.to_owned()));
            assert!(
                !kept.concat().contains(secret) && kept.concat().contains(BLOT),
                "{args:?} became {kept:?}"
            );
            assert_eq!(kept.len(), args.len());
        }
    }

    #[test]
    fn all_else_is_kept() {
        let args =
            ["run", "http://127.0.0.1:7070", "-H", "X-Region: eu", "-R", "50k", "--admin-token-file", "t"];
        assert_eq!(without_secrets(args.map(str::to_owned)), args);
        assert_eq!(without_password("postgres://user@host/db"), "postgres://user@host/db");
    }
}
