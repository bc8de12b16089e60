//! `WWW-Authenticate` (RFC 9110, 11.6.1).

/// How a registry wants to be convinced.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token that somebody else hands out.
    Bearer {
        /// URL of who hands out tokens.
        realm: String,
        /// What the token is for.
        service: String,
        /// What the token must allow; empty in an answer to `/v2/`.
        scope: String,
    },
}

/// Reads all challenges of the fields; unknown schemes are left out.
pub fn parse<S: AsRef<str>>(fields: &[S]) -> Vec<Challenge> {
    fields
        .iter()
        .flat_map(|f| parse_field(f.as_ref()))
        .collect()
}

fn parse_field(field: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = field.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', ',']).unwrap_or(rest.len());
        let (scheme, after) = rest.split_at(end);
        let (parameters, after) = parameters(after);
        let value = |name: &str| {
            let pair = parameters
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name));
            pair.map(|(_, v)| v.clone()).unwrap_or_default()
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            found.push(Challenge::Bearer {
                realm: value("realm"),
                service: value("service"),
                scope: value("scope"),
            });
        }
        rest = after.trim_start_matches([' ', ',']);
    }
    found
}

/// Reads `name=value, name="value"`, up to the next scheme.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = rest.trim_start_matches([' ', ',']);
        let token = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        let end = start.find(|c| !token(c)).unwrap_or(start.len());
        let (name, after) = start.split_at(end);
        let Some(after) = after.strip_prefix('=').filter(|_| !name.is_empty()) else {
            return (found, start);
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.to_owned(), after)
            }
        };
        found.push((name.to_owned(), value));
        rest = after;
    }
}

fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, text.get(at + 1..).unwrap_or("")),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_registries_send() {
        let bearer = |realm: &str, service: &str, scope: &str| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.to_owned(),
            scope: scope.to_owned(),
        };
        for (field, expected) in [
            (r#"Basic realm="Registry""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://a.io/token",service="r.io",scope="repository:x:pull,push""#,
                vec![bearer(
                    "https://a.io/token",
                    "r.io",
                    "repository:x:pull,push",
                )],
            ),
            (
                r#"Bearer realm="a\"b" , service=r.io, Basic realm="x, y""#,
                vec![bearer("a\"b", "r.io", ""), Challenge::Basic],
            ),
            (
                r#"Negotiate abc=, Bearer realm="q"#,
                vec![bearer("q", "", "")],
            ),
            ("", vec![]),
            ("===", vec![]),
        ] {
            assert_eq!(parse(&[field]), expected, "{field}");
        }
    }
}
