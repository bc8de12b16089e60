//! Names of places: `docker://…`, `oci:DIR:TAG`, …

use std::fmt;
use std::path::PathBuf;

use crate::{Digest, Error, Reference, Result};

/// Which image of a layout or an archive is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    /// The only one.
    Only,
    /// The one with this name.
    Tag(String),
    /// The one with this digest.
    Digest(Digest),
}

/// A checked name of a place where an image is, or is to be put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TransportRef {
    /// `docker://REFERENCE`: a registry.
    Registry(Reference),
    /// `oci:DIR[:TAG][@DIGEST]`: an OCI layout.
    Layout(PathBuf, Name),
    /// `oci-archive:FILE[:TAG]`: an OCI layout in a tar file.
    LayoutArchive(PathBuf, Name),
    /// `docker-archive:FILE[:REFERENCE]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<Reference>),
    /// `dir:DIR`: one image as plain files, for debugging.
    Dir(PathBuf),
    /// `hull:NAME` or a bare name: the local store.
    Store(String),
}

impl TransportRef {
    /// Reads what a person typed.
    ///
    /// # Errors
    /// Unknown transport, or not a name of that transport.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Ok(Self::Store(text.to_owned()));
        };
        let refuse = |why| Error::Reference {
            text: text.chars().take(300).collect(),
            why,
        };
        let path = |p: &str| match p {
            "" => Err(refuse("no path after the transport")),
            p => Ok(PathBuf::from(p)),
        };
        match scheme {
            "docker" => match rest.strip_prefix("//") {
                Some(name) => Reference::parse(name).map(Self::Registry),
                None => Err(refuse("write docker://NAME")),
            },
            "oci" | "oci-archive" => {
                let (file, name) = split_name(rest).map_err(|()| refuse("not a name or digest"))?;
                let file = path(file)?;
                Ok(match scheme {
                    "oci" => Self::Layout(file, name),
                    _ => Self::LayoutArchive(file, name),
                })
            }
            "docker-archive" => {
                let (file, name) = match rest.split_once(':') {
                    Some((file, name)) => (file, Some(Reference::parse(name)?)),
                    None => (rest, None),
                };
                Ok(Self::DockerArchive(path(file)?, name))
            }
            "dir" => path(rest).map(Self::Dir),
            "hull" => Ok(Self::Store(rest.to_owned())),
            "containers-storage" | "docker-daemon" | "ostree" | "atomic" | "tarball" | "sif" => {
                Err(refuse(
                    "this transport needs its own tool; save to oci-archive: with it first",
                ))
            }
            // A name with a tag or a port: no scheme at all.
            _ => Ok(Self::Store(text.to_owned())),
        }
    }
}

/// `FILE[:TAG][@DIGEST]`; the field splits at the first colon.
fn split_name(rest: &str) -> std::result::Result<(&str, Name), ()> {
    if let Some((file, digest)) = rest.split_once('@')
        && let Ok(digest) = digest.parse()
    {
        let file = file.split_once(':').map_or(file, |(f, _)| f);
        return Ok((file, Name::Digest(digest)));
    }
    match rest.split_once(':') {
        None => Ok((rest, Name::Only)),
        Some((_, name)) if name.is_empty() || name.len() > 512 => Err(()),
        Some((_, name)) if name.contains(|c: char| c.is_control() || c.is_whitespace()) => Err(()),
        Some((file, name)) => Ok((file, Name::Tag(name.to_owned()))),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

impl fmt::Display for TransportRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(r) => write!(f, "docker://{r}"),
            Self::Layout(p, name) => write!(f, "oci:{}{name}", p.display()),
            Self::LayoutArchive(p, name) => write!(f, "oci-archive:{}{name}", p.display()),
            Self::DockerArchive(p, None) => write!(f, "docker-archive:{}", p.display()),
            Self::DockerArchive(p, Some(r)) => write!(f, "docker-archive:{}:{r}", p.display()),
            Self::Dir(p) => write!(f, "dir:{}", p.display()),
            Self::Store(name) => write!(f, "hull:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_transport() {
        let digest = Digest::of(b"");
        for (text, shown) in [
            (
                "docker://busybox",
                "docker://docker.io/library/busybox:latest",
            ),
            ("oci:/a/b:t1", "oci:/a/b:t1"),
            ("oci:/a/b", "oci:/a/b"),
            ("oci:d:localhost:5000/x:t", "oci:d:localhost:5000/x:t"),
            (&format!("oci:d@{digest}"), &format!("oci:d@{digest}")),
            ("oci-archive:f.tar:t", "oci-archive:f.tar:t"),
            ("docker-archive:f.tar", "docker-archive:f.tar"),
            (
                "docker-archive:f.tar:x:1",
                "docker-archive:f.tar:docker.io/library/x:1",
            ),
            ("dir:/d", "dir:/d"),
            ("hull:x:1", "hull:x:1"),
            ("busybox:1.36", "hull:busybox:1.36"),
            ("localhost:5000/x", "hull:localhost:5000/x"),
        ] {
            assert_eq!(TransportRef::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "docker:busybox",
            "docker://A",
            "oci:",
            "oci:x:",
            "dir:",
            "docker-daemon:x",
        ] {
            assert!(TransportRef::parse(text).is_err(), "{text}");
        }
    }
}
