//! Network configurations of CNI: `/etc/cni/net.d`.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sys::Context as _;

use crate::{Error, Result};

/// Versions of the specification that we speak, the oldest first.
pub(crate) const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];
/// What a configuration may weigh.
const LARGEST: u64 = 1 << 20;

/// A list of plugins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetworkList {
    pub(crate) name: String,
    /// The versions that it is written for, by place in [`VERSIONS`].
    pub(crate) versions: Vec<usize>,
    pub(crate) disable_check: bool,
    pub(crate) disable_gc: bool,
    pub(crate) plugins: Vec<Map<String, Value>>,
}

/// The configuration that is in force: the first by name that can be read and that `wanted`
/// takes. Those before it that cannot be read are said.
pub(crate) fn load(
    dir: &Path,
    wanted: impl Fn(&NetworkList) -> bool,
) -> (Option<NetworkList>, Vec<Error>) {
    let mut errors = Vec::new();
    let paths = match candidates(dir) {
        Ok(paths) => paths,
        Err(error) => return (None, vec![error]),
    };
    for path in paths {
        match load_file(dir, &path) {
            Ok(list) if !wanted(&list) => {}
            Ok(list) => return (Some(list), errors),
            Err(error) => errors.push(error),
        }
    }
    (None, errors)
}

fn candidates(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.context("open", || dir.display().to_string())?,
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("conf" | "conflist" | "json")) && path.is_file()
    };
    let mut paths: Vec<PathBuf> = paths.filter(named).collect();
    paths.sort();
    Ok(paths)
}

fn load_file(dir: &Path, path: &Path) -> Result<NetworkList> {
    let value = read(path)?;
    let mut list = NetworkList::parse(&value).map_err(|reason| invalid(path, &reason))?;
    let inline_only = flag(&value, "loadOnlyInlinedPlugins");
    if !inline_only && path.extension().is_some_and(|e| e == "conflist") {
        for path in candidates(&dir.join(&list.name))? {
            let Value::Object(plugin) = read(&path)? else {
                return Err(invalid(&path, "is no object"));
            };
            list.plugins.push(plugin);
        }
    }
    list.check().map_err(|reason| invalid(path, &reason))?;
    Ok(list)
}

fn invalid(path: &Path, reason: &str) -> Error {
    Error::Invalid(format!("CNI configuration {}: {reason}", path.display()))
}

fn read(path: &Path) -> Result<Value> {
    let name = || path.display().to_string();
    let file = File::open(path).context("open", name)?;
    let mut text = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .context("read", name)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(invalid(path, "is larger than 1 MiB"));
    }
    serde_json::from_slice(&text).map_err(|source| Error::Json {
        what: format!("CNI configuration {}", path.display()),
        source,
    })
}

/// Booleans are also written as strings: an old edition of the specification says so.
fn flag(value: &Value, key: &str) -> bool {
    match value.get(key) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

impl NetworkList {
    /// Reads a list, or a single plugin's configuration as a list of one.
    pub(crate) fn parse(value: &Value) -> std::result::Result<Self, String> {
        let Value::Object(object) = value else {
            return Err("is no object".into());
        };
        let name = object.get("name").and_then(Value::as_str);
        let plugins = match object.get("plugins") {
            None if object.contains_key("type") => vec![object.clone()],
            None => Vec::new(),
            Some(Value::Array(list)) => {
                let plugins = list.iter().map(|plugin| plugin.as_object().cloned());
                plugins
                    .collect::<Option<_>>()
                    .ok_or("a plugin is no object")?
            }
            Some(_) => return Err("plugins is no list".into()),
        };
        Ok(Self {
            name: name.unwrap_or_default().to_owned(),
            versions: versions(object)?,
            disable_check: flag(value, "disableCheck"),
            disable_gc: flag(value, "disableGC"),
            plugins,
        })
    }

    /// As it is kept with an attachment.
    pub(crate) fn to_value(&self) -> Value {
        let versions: Vec<&str> = self.versions.iter().map(|v| VERSIONS[*v]).collect();
        serde_json::json!({
            "name": self.name,
            "cniVersion": versions.last(),
            "cniVersions": versions,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": self.plugins,
        })
    }

    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let first = self.name.chars().next();
        let sound = first.is_some_and(|c| c.is_ascii_alphanumeric());
        if !sound || self.name.len() > 100 || !self.name.chars().all(plain) {
            return Err(format!("name {:?} is not a network's", self.name));
        }
        if self.plugins.is_empty() {
            return Err("no plugins".into());
        }
        for plugin in &self.plugins {
            kind_of(plugin)?;
            let ipam = plugin.get("ipam").and_then(Value::as_object);
            if let Some(ipam) = ipam.filter(|ipam| !ipam.is_empty()) {
                kind_of(ipam)?;
            }
        }
        Ok(())
    }
}

/// The name of a plugin's program: never a path (CVE-2021-20206).
pub(crate) fn kind_of(plugin: &Map<String, Value>) -> std::result::Result<&str, String> {
    let kind = plugin.get("type").and_then(Value::as_str);
    let kind = kind.ok_or("a plugin has no type")?;
    let path = |c: char| c == '/' || c == '\\' || c.is_control();
    if kind.is_empty() || kind == "." || kind == ".." || kind.contains(path) {
        return Err(format!("plugin type {kind:?} is a path, or no name"));
    }
    Ok(kind)
}

/// The versions of a list that we speak, the newest last.
fn versions(object: &Map<String, Value>) -> std::result::Result<Vec<usize>, String> {
    let one = object.get("cniVersion").and_then(Value::as_str);
    let many = object.get("cniVersions").and_then(Value::as_array);
    let mut texts: Vec<&str> = many
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    texts.extend(one);
    if texts.is_empty() {
        // Before versions were written down.
        texts.push("0.2.0");
    }
    let mut known: Vec<usize> = texts.iter().filter_map(|text| place(text)).collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() {
        return Err(format!("no version in {texts:?} is known"));
    }
    Ok(known)
}

/// Place of a version in [`VERSIONS`].
pub(crate) fn place(version: &str) -> Option<usize> {
    let mut list = VERSIONS.iter();
    list.position(|known| *known == version)
}
