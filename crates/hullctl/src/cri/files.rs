//! Pod and container files, JSON or YAML.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use cri_api::v1;
use serde_json::Value;

use super::message;
use super::output::one_line;

/// No configuration is larger.
const LARGEST: u64 = 4 << 20;

fn read(path: &Path) -> Result<Value> {
    let wrong = || format!("read {}", path.display());
    let size = std::fs::metadata(path).with_context(wrong)?.len();
    if size > LARGEST {
        bail!(
            "read {}: {size} bytes, {LARGEST} are allowed",
            path.display()
        );
    }
    let text = std::fs::read_to_string(path).with_context(wrong)?;
    // JSON is YAML; but its own reader has the better errors.
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).with_context(wrong);
    }
    let value = serde_saphyr::from_str(&text);
    value
        .map_err(|e| anyhow!(one_line(&e.to_string())))
        .with_context(wrong)
}

fn load<M: prost::Message + Default>(name: &str, path: &Path) -> Result<M> {
    let value = read(path)?;
    let (message, remarks) =
        message::from_json(name, &value).with_context(|| path.display().to_string())?;
    for remark in remarks {
        eprintln!("hullctl: {}: {remark}", path.display());
    }
    Ok(message)
}

/// A pod's configuration. A pod without uid gets one.
pub fn pod(path: &Path) -> Result<v1::PodSandboxConfig> {
    let mut config: v1::PodSandboxConfig = load("PodSandboxConfig", path)?;
    let Some(metadata) = &mut config.metadata else {
        bail!(
            "{}: metadata: is needed, with name and namespace",
            path.display()
        );
    };
    if metadata.name.is_empty() || metadata.namespace.is_empty() {
        bail!(
            "{}: metadata: name and namespace are needed",
            path.display()
        );
    }
    if metadata.uid.is_empty() {
        metadata.uid = uuid()?;
    }
    Ok(config)
}

/// A container's configuration.
pub fn container(path: &Path) -> Result<v1::ContainerConfig> {
    let mut config: v1::ContainerConfig = load("ContainerConfig", path)?;
    if config.metadata.as_ref().is_none_or(|m| m.name.is_empty()) {
        bail!("{}: metadata.name is needed", path.display());
    }
    let Some(image) = config
        .image
        .as_mut()
        .filter(|image| !image.image.is_empty())
    else {
        bail!("{}: image.image is needed", path.display());
    };
    if image.user_specified_image.is_empty() {
        image.user_specified_image = image.image.clone();
    }
    Ok(config)
}

/// A random UUID.
fn uuid() -> Result<String> {
    let mut bytes = [0_u8; 16];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(bytes.len()) {
        bail!("make a pod's uid: getrandom: {got:?}");
    }
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    ))
}
