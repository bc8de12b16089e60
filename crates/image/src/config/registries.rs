//! `registries.conf`, version 2, and its drop-ins (containers-registries.conf(5)): where a name
//! is fetched from, what is blocked, what may be reached without TLS, what short names mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::transport::files;
use crate::{DEFAULT_HOST, Error, Reference, Result};

const SYSTEM: &str = "/etc/containers/registries.conf";
const SYSTEM_DROP_INS: &str = "/etc/containers/registries.conf.d";
const LIMIT: u64 = 1 << 20;

/// The merged configuration.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    search: Vec<String>,
    enforcing: bool,
    aliases: BTreeMap<String, String>,
    registries: BTreeMap<String, Registry>,
}

/// One place to try for a reference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// The reference as it is called there.
    pub reference: Reference,
    /// It may be reached without TLS or with a certificate that nobody vouches for.
    pub insecure: bool,
    /// It is a mirror: its failures are passed over.
    pub mirror: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<String>,
    registry: Vec<Registry>,
    aliases: BTreeMap<String, String>,
    /// Version 1, which nobody should still have.
    registries: Option<toml::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Registry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl Registries {
    /// Reads the machine's and the user's files.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn system() -> Result<Self> {
        let own = super::user_config("containers/registries.conf").filter(|p| p.exists());
        let main = std::env::var_os("CONTAINERS_REGISTRIES_CONF")
            .map(PathBuf::from)
            .or(own)
            .unwrap_or_else(|| PathBuf::from(SYSTEM));
        let mut drop_ins = vec![PathBuf::from(SYSTEM_DROP_INS)];
        drop_ins.extend(super::user_config("containers/registries.conf.d"));
        Self::load(&main, &drop_ins)
    }

    /// Reads `main` and then, in the order of their names, the `*.conf` of each directory. What
    /// is not there is left out.
    ///
    /// # Errors
    /// A file that is not what it should be.
    pub fn load(main: &Path, drop_ins: &[PathBuf]) -> Result<Self> {
        let mut all = Self {
            enforcing: true,
            ..Self::default()
        };
        let mut paths = vec![main.to_owned()];
        for dir in drop_ins {
            let Ok(entries) = std::fs::read_dir(dir) else {
                continue;
            };
            let mut names: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            names.retain(|p| p.extension().is_some_and(|e| e == "conf"));
            names.sort();
            paths.extend(names);
        }
        for path in paths.iter().filter(|p| p.exists()) {
            let bytes = files::read_limited(path, LIMIT)?;
            let text = String::from_utf8_lossy(&bytes);
            all.merge(&text).map_err(|why| Error::Document {
                what: "registries.conf",
                why: format!("{}: {why}", path.display()),
            })?;
        }
        Ok(all)
    }

    /// Adds a file's content; what it says replaces what was said before.
    fn merge(&mut self, text: &str) -> std::result::Result<(), String> {
        let file: File =
            toml::from_str(text).map_err(|e| e.to_string().trim().replace('\n', " "))?;
        if file.registries.is_some() {
            return Err("version 1 ([registries.*]); write version 2 ([[registry]])".to_owned());
        }
        if let Some(search) = file.unqualified_search_registries {
            self.search = search;
        }
        match file.short_name_mode.as_deref() {
            None => {}
            Some("enforcing") => self.enforcing = true,
            Some("permissive" | "disabled") => self.enforcing = false,
            Some(other) => {
                return Err(format!(
                    "short-name-mode {other:?}: not enforcing, permissive or disabled"
                ));
            }
        }
        for (name, target) in file.aliases {
            // An empty target takes an alias of an earlier file away.
            if target.is_empty() {
                self.aliases.remove(&name);
            } else {
                Reference::parse(&target).map_err(|e| format!("alias {name}: {e}"))?;
                self.aliases.insert(name, target);
            }
        }
        for mut registry in file.registry {
            if registry.prefix.is_empty() {
                registry.prefix.clone_from(&registry.location);
            }
            check(&registry)?;
            self.registries.insert(registry.prefix.clone(), registry);
        }
        Ok(())
    }

    /// Where to fetch `reference` from, in order: mirrors, then the registry itself.
    ///
    /// # Errors
    /// The registry is blocked, or a configured location does not give a reference.
    pub fn endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let Some(registry) = self.find(reference) else {
            return Ok(vec![Endpoint {
                reference: reference.clone(),
                insecure: false,
                mirror: false,
            }]);
        };
        if registry.blocked {
            return Err(Error::Refused {
                what: reference.to_string(),
                why: format!("registries.conf blocks {}", registry.prefix),
            });
        }
        let by_digest = reference.digest().is_some();
        let mut all = Vec::new();
        for mirror in &registry.mirror {
            let wanted = match mirror.pull_from_mirror.as_str() {
                "digest-only" => by_digest,
                "tag-only" => !by_digest,
                _ => by_digest || !registry.mirror_by_digest_only,
            };
            if wanted {
                all.push(Endpoint {
                    reference: moved(reference, &registry.prefix, &mirror.location)?,
                    insecure: mirror.insecure,
                    mirror: true,
                });
            }
        }
        let location = match registry.location.as_str() {
            "" => reference.clone(),
            location => moved(reference, &registry.prefix, location)?,
        };
        all.push(Endpoint {
            reference: location,
            insecure: registry.insecure,
            mirror: false,
        });
        Ok(all)
    }

    /// What a name without a host may mean, the likeliest first.
    ///
    /// # Errors
    /// Not a name, or one of several registries that nobody has chosen between.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>> {
        if Reference::has_host(text) {
            return Ok(vec![Reference::parse(text)?]);
        }
        let plain = Reference::parse(text)?;
        let end = text.find(['@', ':']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if let Some(target) = self.aliases.get(name) {
            return Ok(vec![Reference::parse(&format!("{target}{rest}"))?]);
        }
        match self.search.as_slice() {
            [] => Ok(vec![plain]),
            several if several.len() > 1 && self.enforcing => Err(Error::Refused {
                what: text.to_owned(),
                why: format!(
                    "a short name, and registries.conf searches {}: write the whole name, or add an alias",
                    several.join(", ")
                ),
            }),
            hosts => hosts
                .iter()
                .map(|host| Reference::parse(&format!("{host}/{text}")))
                .collect(),
        }
    }

    /// The entry with the longest prefix.
    fn find(&self, reference: &Reference) -> Option<&Registry> {
        let whole = reference.to_string();
        let matching = |r: &&Registry| prefix_len(&whole, reference.host(), &r.prefix).is_some();
        self.registries
            .values()
            .filter(matching)
            .max_by_key(|r| r.prefix.len())
    }
}

fn check(registry: &Registry) -> std::result::Result<(), String> {
    let wild = registry.prefix.starts_with("*.");
    if registry.prefix.is_empty() {
        return Err("[[registry]] without prefix and location".to_owned());
    }
    if registry.location.is_empty() && !wild {
        return Err(format!("[[registry]] {}: no location", registry.prefix));
    }
    let modes = ["", "all", "digest-only", "tag-only"];
    for mirror in &registry.mirror {
        if mirror.location.is_empty() {
            return Err(format!(
                "[[registry]] {}: a mirror without location",
                registry.prefix
            ));
        }
        if !modes.contains(&mirror.pull_from_mirror.as_str()) {
            return Err(format!(
                "[[registry]] {}: pull-from-mirror {:?}: not all, digest-only or tag-only",
                registry.prefix, mirror.pull_from_mirror
            ));
        }
    }
    Ok(())
}

/// Length of the part of `whole` that `prefix` covers.
fn prefix_len(whole: &str, host: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        return (host.ends_with(domain) || name.ends_with(domain)).then_some(host.len());
    }
    let rest = whole.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

/// The reference with `prefix` exchanged for `location`.
fn moved(reference: &Reference, prefix: &str, location: &str) -> Result<Reference> {
    let name = reference.name();
    let covered = prefix_len(&name, reference.host(), prefix).unwrap_or(name.len());
    let rest = name.get(covered..).unwrap_or("");
    let target = format!("{}{rest}", location.trim_end_matches('/'));
    if Reference::has_host(&target) {
        return reference.at(&target);
    }
    // `location = "mirror"`: a host without dot and port.
    Err(Error::Document {
        what: "registries.conf",
        why: format!(
            "location {location:?} for {name}: not HOST[:PORT][/PATH] ({DEFAULT_HOST} is one)"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
unqualified-search-registries = ["a.io", "b.io"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.local:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.local"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "docker.io/private"
location = "inner.io/team"
[[registry]]
location = "evil.io"
blocked = true
[[registry]]
prefix = "*.corp.io"
insecure = true
[aliases]
"tool" = "quay.io/tools/tool"
"#;

    fn parse(texts: &[&str]) -> std::result::Result<Registries, String> {
        let mut all = Registries {
            enforcing: true,
            ..Registries::default()
        };
        for text in texts {
            all.merge(text)?;
        }
        Ok(all)
    }

    fn names(all: &Registries, text: &str) -> Vec<String> {
        let endpoints = all.endpoints(&Reference::parse(text).unwrap()).unwrap();
        let name = |e: &Endpoint| {
            format!(
                "{}{}",
                e.reference,
                if e.insecure { " insecure" } else { "" }
            )
        };
        endpoints.iter().map(name).collect()
    }

    #[test]
    fn mirrors_and_prefixes() {
        let all = parse(&[TEXT]).unwrap();
        assert_eq!(
            names(&all, "nginx:1"),
            [
                "mirror.local:5000/hub/library/nginx:1 insecure",
                "docker.io/library/nginx:1"
            ]
        );
        let digest = crate::Digest::of(b"");
        assert_eq!(names(&all, &format!("nginx@{digest}")).len(), 3);
        assert_eq!(names(&all, "private/app"), ["inner.io/team/app:latest"]);
        assert_eq!(names(&all, "privateer/app").len(), 2);
        assert_eq!(
            names(&all, "x.corp.io:5000/a"),
            ["x.corp.io:5000/a:latest insecure"]
        );
        assert_eq!(
            names(&all, "evil.io.example/a"),
            ["evil.io.example/a:latest"]
        );
        let blocked = all
            .endpoints(&Reference::parse("evil.io/a").unwrap())
            .unwrap_err();
        assert!(blocked.to_string().contains("blocks evil.io"), "{blocked}");
    }

    #[test]
    fn short_names() {
        let all = parse(&[TEXT]).unwrap();
        let one = all.candidates("tool:2").unwrap();
        assert_eq!(one[0].to_string(), "quay.io/tools/tool:2");
        assert!(
            all.candidates("other")
                .unwrap_err()
                .to_string()
                .contains("a.io, b.io")
        );
        assert_eq!(
            all.candidates("c.io/x").unwrap()[0].to_string(),
            "c.io/x:latest"
        );
        let loose = parse(&[
            TEXT,
            "short-name-mode = \"permissive\"\n[aliases]\ntool = \"\"",
        ])
        .unwrap();
        let found: Vec<String> = loose
            .candidates("tool")
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["a.io/tool:latest", "b.io/tool:latest"]);
        let none = parse(&[]).unwrap();
        assert_eq!(
            none.candidates("x").unwrap()[0].to_string(),
            "docker.io/library/x:latest"
        );
    }

    #[test]
    fn refuses_what_it_would_misread() {
        for text in [
            "[registries.search]\nregistries = ['x']",
            "[[registry]]\ninsecure = true",
            "[[registry]]\nprefix = 'a.io'",
            "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\ninsecure = true",
            "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation='b.io'\npull-from-mirror='x'",
            "short-name-mode = 'x'",
            "[aliases]\nx = 'A'",
            "[[registry]",
        ] {
            assert!(parse(&[text]).is_err(), "{text}");
        }
        let odd = parse(&["[[registry]]\nlocation = 'mirror'\nprefix = 'a.io'"]).unwrap();
        assert!(odd.endpoints(&Reference::parse("a.io/x").unwrap()).is_err());
    }
}
