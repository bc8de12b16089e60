//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
//!
//! The grammar is the distribution project's; the defaults are the field's: a name without a host
//! is on docker.io, a docker.io name without a slash is below `library/`, a reference without tag
//! and digest has the tag `latest`.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error};

/// Host that a bare name stands for.
pub const DEFAULT_HOST: &str = "docker.io";
/// Tag of a reference that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A checked, complete reference.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reference {
    host: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads what a person typed, filling in the defaults.
    ///
    /// # Errors
    /// [`Error::Reference`], which says what is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |why| Error::Reference {
            text: text.chars().take(300).collect(),
            why,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let (name, tag) = match rest.rfind(':') {
            Some(at) if !rest[at..].contains('/') => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        let (host, path) = split_host(name);
        check_host(host).map_err(refuse)?;
        let path = if host == DEFAULT_HOST && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        check_path(&path).map_err(refuse)?;
        if host.len() + 1 + path.len() > NAME_MAX {
            return Err(refuse("name longer than 255 characters"));
        }
        if let Some(tag) = tag {
            check_tag(tag).map_err(refuse)?;
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self {
            host: host.to_owned(),
            path,
            tag,
            digest,
        })
    }

    /// Whether `text` names its host: such a name is never looked up among short names.
    #[must_use]
    pub fn has_host(text: &str) -> bool {
        text.split_once('/')
            .is_some_and(|(first, _)| is_host(first))
    }

    /// Registry host, with its port if any.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Repository below the host.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `HOST/PATH`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// The tag; `None` only with a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that the manifest must have.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What the registry is asked for: the digest where there is one, else the tag.
    #[must_use]
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository under another host and path prefix, as mirrors are configured.
    ///
    /// # Errors
    /// The result is not a reference.
    pub fn at(&self, name: &str) -> Result<Self, Error> {
        let mut moved = Self::parse(name)?;
        moved.tag.clone_from(&self.tag);
        moved.digest.clone_from(&self.digest);
        Ok(moved)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// The first component is a host if it cannot be a path's: a dot, a port, `localhost`, or a
/// capital letter.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => (DEFAULT_HOST, path),
        Some((first, path)) if is_host(first) => (first, path),
        _ => (DEFAULT_HOST, name),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(v6) => match v6.split_once(']') {
            Some((address, rest)) => {
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| "not an IPv6 address")?;
                (
                    "v6",
                    rest.strip_prefix(':')
                        .or_else(|| rest.is_empty().then_some("1")),
                )
            }
            None => return Err("no ] after the IPv6 address"),
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("1")),
        },
    };
    if !port.is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0)) {
        return Err("not a port number after the host");
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.split('.').all(label) {
        Ok(())
    } else {
        Err("not a host name")
    }
}

/// Components of lower-case letters and digits, joined inside by `.`, `_`, `__` or hyphens.
fn check_path(path: &str) -> Result<(), &'static str> {
    for component in path.split('/') {
        let mut words = component.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
        let bounded = words.next().is_some_and(|w| !w.is_empty())
            && component.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let separators: Vec<&str> = component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .filter(|s| !s.is_empty())
            .collect();
        let separated = separators
            .iter()
            .all(|s| matches!(*s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("repository names are lower-case");
        }
        if !bounded || !separated {
            return Err("not a repository name");
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if ok { Ok(()) } else { Err("not a tag") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_is_left_out() {
        for (text, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("user/app:1", "docker.io/user/app:1"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/x", "localhost/x:latest"),
            (
                "localhost:5000/a/b__c:v1.0-x",
                "localhost:5000/a/b__c:v1.0-x",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            ("quay.io/a/b-c--d", "quay.io/a/b-c--d:latest"),
        ] {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!(parsed.to_string(), whole);
            assert_eq!(Reference::parse(whole).unwrap(), parsed);
        }
        let digest = Digest::of(b"x");
        let both = Reference::parse(&format!("r.io/a:t@{digest}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("t"), Some(&digest)));
        assert_eq!(both.selector(), digest.to_string());
        assert_eq!(
            Reference::parse(&format!("r.io/a@{digest}")).unwrap().tag(),
            None
        );
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "/",
            "a//b",
            "A",
            "r.io/A",
            "a:",
            "a:-x",
            "a:t/b:c:",
            "../a",
            "a/../b",
            "a@",
            "a@sha256:x",
            "r.io:/a",
            "r.io:99999/a",
            "r.io:0/a",
            "-r.io/a",
            "r..io/a",
            "a b",
            "a_",
            "a___b",
            "a.-b",
            "[::g]/a",
            "[::1/a",
            "r.io/",
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
        let long = format!("r.io/{}", "a".repeat(300));
        assert!(Reference::parse(&long).is_err());
    }

    #[test]
    fn a_mirror_keeps_tag_and_digest() {
        let asked = Reference::parse("nginx:1.25").unwrap();
        let moved = asked.at("mirror.local:5000/hub/library/nginx").unwrap();
        assert_eq!(
            moved.to_string(),
            "mirror.local:5000/hub/library/nginx:1.25"
        );
        assert!(Reference::has_host("r.io/x") && !Reference::has_host("user/x"));
    }
}
