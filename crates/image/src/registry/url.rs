//! The part of URLs that registries need.

use std::fmt;

/// An absolute `http` or `https` URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Url {
    /// With TLS.
    pub tls: bool,
    /// `HOST[:PORT]`.
    pub authority: String,
    /// From the first slash, query included, fragment excluded.
    pub path: String,
}

impl Url {
    /// Reads an absolute URL. One with a user name in it is refused: what looks like a host there
    /// is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, rest) = match text.split_once("://")? {
            (s, rest) if s.eq_ignore_ascii_case("https") => (true, rest),
            (s, rest) if s.eq_ignore_ascii_case("http") => (false, rest),
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if authority.is_empty() || !authority.bytes().all(plain) || !path.is_ascii() {
            return None;
        }
        if path.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') {
            return None;
        }
        let path = match path.strip_prefix('?') {
            Some(query) => format!("/?{query}"),
            None if path.is_empty() => "/".to_owned(),
            None => path.to_owned(),
        };
        Some(Self {
            tls,
            authority: authority.to_ascii_lowercase(),
            path,
        })
    }

    /// Reads a `Location` relative to this URL.
    pub fn join(&self, location: &str) -> Option<Self> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let scheme = if self.tls { "https" } else { "http" };
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let own = self.path.split('?').next().unwrap_or(&self.path);
            let dir = own.rfind('/').and_then(|at| own.get(..=at)).unwrap_or("/");
            format!("{dir}{location}")
        };
        Self::parse(&format!("{scheme}://{}{path}", self.authority))
    }

    /// With `name=value` added to its query.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.path
            .push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        self.path.push_str(&encode(value));
        self
    }

    /// Whether credentials for `self` may also go to `other`.
    pub fn same_host(&self, other: &Self) -> bool {
        self.tls == other.tls && self.authority == other.authority
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986).
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_locations() {
        let base = Url::parse("https://R.io:5000/v2/a/blobs/uploads/x?state=1").unwrap();
        for (location, whole) in [
            ("/v2/u?s=2", "https://r.io:5000/v2/u?s=2"),
            ("y?s", "https://r.io:5000/v2/a/blobs/uploads/y?s"),
            ("//cdn.io/z", "https://cdn.io/z"),
            ("http://cdn.io", "http://cdn.io/"),
            ("https://cdn.io?a=/b#f", "https://cdn.io/?a=/b"),
        ] {
            assert_eq!(base.join(location).unwrap().to_string(), whole);
        }
        for bad in [
            "https://user:pw@r.io/",
            "https://r.io\\@evil.io/",
            "ftp://r.io/",
            "https:///x",
            "/a b",
            "/a\r\nX: y",
            "file:///etc/passwd",
        ] {
            assert_eq!(base.join(bad), None, "{bad}");
        }
        let with = base.with("digest", "sha256:a/b").to_string();
        assert!(with.ends_with("?state=1&digest=sha256%3Aa%2Fb"), "{with}");
    }
}
