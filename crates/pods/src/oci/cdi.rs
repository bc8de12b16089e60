//! Container Device Interface: named devices (`vendor.com/class=name`) from the specification
//! files of `/etc/cdi` and `/var/run/cdi`, and what they put into a container.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use spec::oci::{Device, Hook, Hooks, Mount, Spec};

use super::devices;
use crate::error::{Doing, Error, Result};

/// The largest file that is read.
const FILE_MAX: u64 = 4 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    kind: String,
    devices: Vec<Named>,
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    name: String,
    container_edits: Edits,
}

/// What is added to a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<NamedHook>,
    #[serde(rename = "additionalGIDs")]
    additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: String,
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bind {
    host_path: String,
    container_path: String,
    options: Vec<String>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamedHook {
    hook_name: String,
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

/// Puts the named devices into a container. Later directories win over earlier ones.
///
/// # Errors
/// A device that no file has, or one that two files of one directory have.
pub fn inject(spec: &mut Spec, names: &[String], dirs: &[PathBuf]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let known = load(dirs)?;
    let mut shared: Vec<&str> = Vec::new();
    for name in names {
        let (kind, _) = name.split_once('=').ok_or_else(|| {
            Error::invalid(format!("CDI device {name}: must be vendor/class=name"))
        })?;
        let found = known.devices.get(name.as_str()).ok_or_else(|| {
            Error::invalid(format!("CDI device {name}: no file below {dirs:?} has it"))
        })?;
        let edits = found.as_ref().map_err(Clone::clone)?;
        if !shared.contains(&kind) {
            shared.push(kind);
            for common in known.common.get(kind).into_iter().flatten() {
                apply(spec, common)?;
            }
        }
        apply(spec, edits)?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Known {
    devices: BTreeMap<String, Result<Edits>>,
    common: BTreeMap<String, Vec<Edits>>,
}

fn load(dirs: &[PathBuf]) -> Result<Known> {
    let mut known = Known::default();
    for dir in dirs {
        let mut here = Known::default();
        let mut files: Vec<PathBuf> = match fs::read_dir(dir) {
            Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::failed(format!("readdir({})", dir.display()), e)),
        };
        files.sort();
        let wanted = ["json", "yaml"];
        for file in files {
            if file
                .extension()
                .is_some_and(|x| wanted.iter().any(|w| x == *w))
            {
                read(&file, &mut here)?;
            }
        }
        known.devices.extend(here.devices);
        known.common.extend(here.common);
    }
    Ok(known)
}

fn read(path: &Path, known: &mut Known) -> Result<()> {
    let what = || format!("CDI file {}", path.display());
    if fs::metadata(path).doing(what)?.len() > FILE_MAX {
        return Err(Error::invalid(format!("{}: larger than 4 MiB", what())));
    }
    let text = fs::read_to_string(path).doing(what)?;
    let file: File = serde_saphyr::from_str(&text).doing(what)?;
    for device in file.devices {
        let name = format!("{}={}", file.kind, device.name);
        let twice = Error::invalid(format!("CDI device {name}: more than one file has it"));
        let edits = if known.devices.contains_key(&name) {
            Err(twice)
        } else {
            Ok(device.container_edits)
        };
        known.devices.insert(name, edits);
    }
    known
        .common
        .entry(file.kind)
        .or_default()
        .push(file.container_edits);
    Ok(())
}

fn apply(spec: &mut Spec, edits: &Edits) -> Result<()> {
    let process = spec.process.get_or_insert_default();
    for pair in &edits.env {
        let name = pair.split('=').next().unwrap_or_default();
        process
            .env
            .retain(|old| old.split('=').next() != Some(name));
        process.env.push(pair.clone());
    }
    process
        .user
        .additional_gids
        .extend(edits.additional_gids.iter().filter(|&&g| g != 0));
    let owner = (process.user.uid, process.user.gid);
    let linux = spec.linux.get_or_insert_default();
    for node in &edits.device_nodes {
        let device = device(node, owner)?;
        let mut all = devices::Devices {
            nodes: std::mem::take(&mut linux.devices),
            rules: Vec::new(),
        };
        let access = if node.permissions.is_empty() {
            "rwm"
        } else {
            &node.permissions
        };
        all.push(device, access);
        linux.devices = all.nodes;
        linux
            .resources
            .get_or_insert_default()
            .devices
            .extend(all.rules);
    }
    spec.mounts.extend(edits.mounts.iter().map(|m| Mount {
        destination: m.container_path.clone(),
        source: m.host_path.clone(),
        kind: if m.kind.is_empty() {
            "bind".to_owned()
        } else {
            m.kind.clone()
        },
        options: m.options.clone(),
        ..Mount::default()
    }));
    edits
        .hooks
        .iter()
        .try_for_each(|h| hook(spec.hooks.get_or_insert_default(), h))
}

fn device(node: &Node, owner: (u32, u32)) -> Result<Device> {
    let host = Path::new(if node.host_path.is_empty() {
        &node.path
    } else {
        &node.host_path
    });
    let what = || format!("CDI device node {}", host.display());
    let given = node.major.zip(node.minor).filter(|_| !node.kind.is_empty());
    let mut device = if let Some((major, minor)) = given {
        Device {
            kind: node.kind.clone(),
            path: node.path.clone(),
            major,
            minor,
            ..Device::default()
        }
    } else {
        let meta = fs::metadata(host).doing(what)?;
        devices::node(&meta, Path::new(&node.path))
            .ok_or_else(|| Error::invalid(format!("{}: not a device", what())))?
    };
    device.file_mode = node.file_mode.or(device.file_mode);
    device.uid = node
        .uid
        .or_else(|| Some(owner.0).filter(|&u| u != 0))
        .or(device.uid);
    device.gid = node
        .gid
        .or_else(|| Some(owner.1).filter(|&g| g != 0))
        .or(device.gid);
    Ok(device)
}

fn hook(hooks: &mut Hooks, given: &NamedHook) -> Result<()> {
    let list = match given.hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        other => return Err(Error::invalid(format!("CDI hook {other}: no such hook"))),
    };
    list.push(Hook {
        path: given.path.clone(),
        args: given.args.clone(),
        env: given.env.clone(),
        timeout: given.timeout,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_a_file() {
        let dir = std::env::temp_dir().join(format!("hull-cdi.{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let text = "cdiVersion: 0.6.0\nkind: hull.test/thing\ncontainerEdits:\n  env: [ALL=1]\n\
            devices:\n- name: one\n  containerEdits:\n    env: [ONE=1]\n    deviceNodes:\n    \
            - path: /dev/one\n      hostPath: /dev/null\n    mounts:\n    - hostPath: /etc\n      \
            containerPath: /host-etc\n      options: [ro, bind]\n";
        fs::write(dir.join("t.yaml"), text).unwrap();
        let mut spec = Spec::default();
        let dirs = [dir.clone(), dir.join("missing")];
        let injected = inject(&mut spec, &["hull.test/thing=one".into()], &dirs);
        let missing = inject(&mut Spec::default(), &["hull.test/thing=two".into()], &dirs);
        fs::remove_dir_all(&dir).unwrap();
        injected.unwrap();
        assert_eq!(spec.process.unwrap().env, ["ALL=1", "ONE=1"]);
        assert_eq!(spec.linux.unwrap().devices[0].minor, 3);
        assert_eq!(spec.mounts[0].destination, "/host-etc");
        assert!(missing.unwrap_err().to_string().contains("two"));
    }
}
