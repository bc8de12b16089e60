//! Which image of an index is for this machine.

use std::fmt;

use crate::document::{Descriptor, Index, PlatformSpec};
use crate::{Error, Result};

/// A machine, in Go's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform {
    /// Operating system: `linux`.
    pub os: String,
    /// CPU: `amd64`, `arm64`, …
    pub architecture: String,
    /// Variant of the CPU: `v7`, `v8`, …; empty where there is none.
    pub variant: String,
}

impl Platform {
    /// The machine this runs on.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "powerpc64" => ("ppc64", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// Reads `OS/ARCH[/VARIANT]` or `ARCH`.
    ///
    /// # Errors
    /// Not of that form.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, arch, variant) = match parts.as_slice() {
            [arch] => ("linux", *arch, ""),
            [os, arch] => (*os, *arch, ""),
            [os, arch, variant] => (*os, *arch, *variant),
            _ => ("", "", ""),
        };
        if os.is_empty() || arch.is_empty() {
            return Err(Error::Document {
                what: "platform",
                why: format!("{text:?} is not OS/ARCH[/VARIANT]"),
            });
        }
        let (architecture, implied) = match arch {
            "x86_64" | "x86-64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "armhf" => ("arm", "v7"),
            "armel" => ("arm", "v6"),
            "i386" | "i686" => ("386", ""),
            other => (other, ""),
        };
        let variant = if variant.is_empty() { implied } else { variant };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        })
    }

    /// The entry of `index` that fits best: the highest variant that this machine runs. Entries
    /// without a platform are taken only where no entry has one.
    ///
    /// # Errors
    /// None fits; the error lists what there is.
    pub fn choose<'a>(&self, index: &'a Index) -> Result<&'a Descriptor> {
        let fit = |d: &&Descriptor| d.platform.as_ref().and_then(|p| self.rank(p));
        let best = index
            .manifests
            .iter()
            .filter_map(|d| Some((fit(&d)?, d)))
            // The first of equals: the order of an index is its author's preference.
            .fold(None::<(u32, &Descriptor)>, |best, (rank, d)| match best {
                Some((least, _)) if least <= rank => best,
                _ => Some((rank, d)),
            });
        if let Some((_, d)) = best {
            return Ok(d);
        }
        if let [only] = index.manifests.as_slice()
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let there: Vec<String> = index
            .manifests
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .filter(|p| p.os != "unknown")
            .take(20)
            .map(|p| Self::of(p).to_string())
            .collect();
        Err(Error::Document {
            what: "index",
            why: format!("no image for {self}; there is: {}", there.join(", ")),
        })
    }

    fn of(spec: &PlatformSpec) -> Self {
        Self {
            os: spec.os.clone(),
            architecture: spec.architecture.clone(),
            variant: spec.variant.clone(),
        }
    }

    /// How far from ideal an entry is; `None` if it does not run here.
    fn rank(&self, there: &PlatformSpec) -> Option<u32> {
        if there.os != self.os || there.architecture != self.architecture {
            return None;
        }
        // arm64 without variant is v8, arm without variant is v7: the field's convention.
        let plain = match self.architecture.as_str() {
            "arm64" => "v8",
            "arm" => "v7",
            _ => "",
        };
        let or_plain = |v: &str| {
            if v.is_empty() {
                plain.to_owned()
            } else {
                v.to_owned()
            }
        };
        let (want, have) = (or_plain(&self.variant), or_plain(&there.variant));
        if want == have {
            return Some(0);
        }
        let number = |v: &str| v.strip_prefix('v').unwrap_or("0").parse::<u32>().ok();
        match (number(&want), number(&have)) {
            // An older variant of the same family runs on a newer CPU.
            (Some(w), Some(h)) if h < w => Some(w - h),
            // Nothing is known of this machine's variant: the plain one is safest, others last.
            _ if want.is_empty() => Some(1000),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, &str)]) -> Index {
        let digest = crate::Digest::of(b"");
        let entries: Vec<String> = platforms
            .iter()
            .enumerate()
            .map(|(n, (os, arch, variant))| {
                format!(
                    r#"{{"mediaType":"x","size":{n},"digest":"{digest}","platform":{{"os":"{os}","architecture":"{arch}","variant":"{variant}"}}}}"#
                )
            })
            .collect();
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn picks_the_nearest_variant() {
        let arms = [
            ("linux", "arm", "v5"),
            ("linux", "arm", "v6"),
            ("linux", "arm", "v7"),
            ("linux", "arm64", ""),
            ("windows", "amd64", ""),
            ("linux", "amd64", "v3"),
            ("linux", "amd64", ""),
        ];
        for (text, chosen) in [
            ("arm", 2),
            ("linux/arm/v6", 1),
            ("linux/arm/v8", 2),
            ("armel", 1),
            ("arm64", 3),
            ("linux/arm64/v8", 3),
            ("amd64", 6),
            ("linux/amd64/v4", 5),
            ("windows/amd64", 4),
        ] {
            let platform = Platform::parse(text).unwrap();
            assert_eq!(
                platform.choose(&index(&arms)).unwrap().size,
                chosen,
                "{text}"
            );
        }
        let none = Platform::parse("riscv64")
            .unwrap()
            .choose(&index(&arms))
            .unwrap_err();
        assert!(none.to_string().contains("linux/arm/v5"), "{none}");
        let v5 = Platform::parse("linux/arm/v5").unwrap();
        assert_eq!(v5.choose(&index(&arms[1..])).ok(), None);
        assert!(Platform::parse("a/b/c/d").is_err() && Platform::parse("").is_err());
    }
}
