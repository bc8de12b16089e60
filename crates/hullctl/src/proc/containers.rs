//! Which container a process belongs to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime::root::StateRoot;
use runtime::{Container, ContainerId, Status};

/// A container of a state root, and the processes in it.
#[derive(Debug)]
pub struct Known {
    /// What it is called: `pod/container` where its annotations say so, else its id.
    pub name: String,
    /// The container.
    pub container: Container,
    /// Its processes, ascending.
    pub pids: Vec<i32>,
}

/// The state root to look at: the given one, or the user's, or root's.
pub fn state_root(given: Option<&Path>) -> PathBuf {
    let users = || runtime::root::of_user(runtime::is_rootless());
    given
        .map(Path::to_owned)
        .or_else(users)
        .unwrap_or_else(|| runtime::root::DEFAULT.into())
}

/// All containers of a state root that have a process, sorted by id. One that cannot be read is
/// left out: others are not to suffer.
pub fn known(root: &Path) -> Result<Vec<Known>> {
    let Some(root) = StateRoot::open(root)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for id in root.ids()? {
        let Ok(container) = Container::open(&root, &id) else {
            continue;
        };
        let pids = runtime::processes::processes(&container).unwrap_or_default();
        let name = name_of(id.as_str(), &container.record.annotations);
        all.push(Known {
            name,
            container,
            pids,
        });
    }
    Ok(all)
}

/// The ids of containers that other runtimes have made for hulld.
pub fn foreign(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(runtime::foreign::FOREIGN));
    let names = entries.into_iter().flatten().flatten();
    let mut ids: Vec<String> = names
        .filter_map(|e| e.file_name().into_string().ok())
        .collect();
    ids.sort_unstable();
    ids
}

/// One container by its id.
pub fn open(root: &Path, id: &str) -> Result<Option<(Container, Status)>> {
    let id = ContainerId::new(id)?;
    let Some(root) = StateRoot::open(root)? else {
        return Ok(None);
    };
    match Container::open(&root, &id) {
        Err(runtime::Error::NotFound(_)) => Ok(None),
        other => {
            let container = other?;
            let status = container
                .status()
                .with_context(|| format!("status of {id}"))?;
            Ok(Some((container, status)))
        }
    }
}

/// The kubelet's names for pod and container, in the annotations of the runtimes that it drives.
const POD: [&str; 3] = [
    "io.kubernetes.pod.name",
    "io.kubernetes.cri.sandbox-name",
    "io.kubernetes.cri-o.KubeName",
];
const CONTAINER: [&str; 3] = [
    "io.kubernetes.container.name",
    "io.kubernetes.cri.container-name",
    "io.kubernetes.cri-o.ContainerName",
];

/// What a container is called: `pod/container` where its annotations say so, else its id.
pub fn name_of(id: &str, annotations: &BTreeMap<String, String>) -> String {
    let first = |names: [&str; 3]| names.into_iter().find_map(|n| annotations.get(n));
    match (first(POD), first(CONTAINER)) {
        (Some(pod), Some(container)) => format!("{pod}/{container}"),
        (Some(pod), None) => format!("{pod}/{id}"),
        _ => id.to_owned(),
    }
}

/// The name of each process's container.
pub fn names_by_pid(all: &[Known]) -> BTreeMap<i32, String> {
    let pairs = all
        .iter()
        .flat_map(|k| k.pids.iter().map(|pid| (*pid, k.name.clone())));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_containers_by_their_names() {
        let id = "c1";
        let mut annotations = BTreeMap::new();
        assert_eq!(name_of(id, &annotations), "c1");
        annotations.insert(POD[1].to_owned(), "web".to_owned());
        assert_eq!(name_of(id, &annotations), "web/c1");
        annotations.insert(CONTAINER[1].to_owned(), "nginx".to_owned());
        assert_eq!(name_of(id, &annotations), "web/nginx");
    }
}
