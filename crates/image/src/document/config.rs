//! The image configuration (image-spec, config.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::MAX_CONFIG;
use crate::{Digest, Error, Result};

/// The image configuration; its digest is the image's id.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub author: String,
    /// CPU, in Go's words.
    pub architecture: String,
    /// Operating system, in Go's words.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Features of the operating system.
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the CPU.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// How to run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    /// Its layers.
    pub rootfs: RootFs,
    /// How it came to be.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub history: Vec<History>,
}

/// `rootfs`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Remark.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// It made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// `config`: the parameters of a container made from the image.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, …
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub user: String,
    /// Ports it listens on: `80/tcp`.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Environment.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub env: Vec<String>,
    /// First words of argv.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub entrypoint: Vec<String>,
    /// Further words of argv; what a person's own words replace.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub cmd: Vec<String>,
    /// Directories for data that outlives the container.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Working directory.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub working_dir: String,
    /// Free metadata.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to end.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub stop_signal: String,
    /// How to see that it is well; Docker's extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// Docker's health check; times in nanoseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", command]`, `["NONE"]`.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// For one check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Grace at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Failures before it counts as unwell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

impl ImageConfig {
    /// Reads a configuration whose digest has been checked.
    ///
    /// # Errors
    /// Too large, not JSON, or its layers are not a list of digests.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let refuse = |why: String| Error::Document {
            what: "image configuration",
            why,
        };
        if bytes.len() as u64 > MAX_CONFIG {
            return Err(refuse(format!("larger than {MAX_CONFIG} bytes")));
        }
        serde_json::from_slice(bytes).map_err(|e| refuse(e.to_string()))
    }
}

/// Go writes `null` for an empty list or map.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    d: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let json =
            br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Entrypoint":null,
            "Env":null,"Labels":null,"ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers",
            "diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
            "history":[{"created_by":"ADD","empty_layer":true}]}"#;
        let config = ImageConfig::parse(json).unwrap();
        let run = config.config.unwrap();
        assert_eq!(run.cmd, ["sh"]);
        assert!(run.entrypoint.is_empty() && run.exposed_ports.contains_key("80/tcp"));
        assert_eq!(config.rootfs.diff_ids.len(), 1);
        assert!(ImageConfig::parse(br#"{"rootfs":{"diff_ids":["../x"]}}"#).is_err());
    }
}
