//! What is kept of containers that another runtime has made for a supervisor of ours: that one
//! forgets them when they are deleted, and does not tell why they ended.
//!
//! They lie in a directory of their own in the state root while they exist, in the same form as
//! our own containers, and go where those go afterwards ([`crate::verdict`]). Nothing but
//! [`crate::verdict`] and those who ask for it may take them for ours.

use std::path::Path;

use cgroup::Manager;
use spec::oci::Spec;

use crate::container::{CONFIG, Container};
use crate::record::Record;
use crate::root::StateRoot;
use crate::{ContainerId, Doing as _, Error, ProcessId, Result};

/// The directory in the state root; no id contains the character.
pub const FOREIGN: &str = "@foreign";

/// Writes down what another runtime has made, or could not make (without a first process).
///
/// # Errors
/// The bundle's configuration cannot be read, or the step that failed.
pub fn remember(
    root: &StateRoot,
    id: &ContainerId,
    bundle: &Path,
    systemd: bool,
    init: Option<ProcessId>,
) -> Result<Container> {
    let path = bundle.join(CONFIG);
    let args = || path.display().to_string();
    let bytes = sys::file::read_text(&path)?;
    let spec = spec::parse_config(bytes.as_bytes()).doing(args)?;
    let mut record = Record::foreign(id.to_string(), &spec, bundle.to_owned());
    record.init = init;
    record.cgroup = groups(&spec, id, systemd).map(|manager| manager.state());
    let dir = root.make_foreign(id)?;
    // Of a container of the same name that nobody deleted.
    dir.unlink(crate::verdict::NOTES)?;
    dir.unlink(crate::verdict::FACTS)?;
    dir.write(CONFIG, bytes.as_bytes())?;
    dir.save(&record)?;
    let id = id.clone();
    Ok(Container { id, dir, record })
}

/// Where runtimes make the groups that a configuration names.
fn groups(spec: &Spec, id: &ContainerId, systemd: bool) -> Option<Manager> {
    let path = spec.linux.as_ref().map(|linux| linux.cgroups_path.as_str());
    let manager = Manager::new(&cgroup::Request {
        path,
        id: id.as_str(),
        policy: cgroup::Policy::default(),
        systemd: systemd.then_some(cgroup::SystemdRequest { annotations: None }),
    });
    // Without them there is less to tell, no more.
    manager.ok()
}

/// One that is written down.
///
/// # Errors
/// [`Error::NotFound`], or the record cannot be read.
pub fn open(root: &StateRoot, id: &ContainerId) -> Result<Container> {
    let dir = root.foreign(id)?;
    let dir = dir.ok_or_else(|| Error::NotFound(id.to_string()))?;
    let record = dir.record()?;
    let id = id.clone();
    Ok(Container { id, dir, record })
}

/// It has been deleted, and is only remembered.
///
/// # Errors
/// rename(2)'s.
pub fn retire(root: &StateRoot, container: &Container) -> Result<()> {
    let name = format!("{FOREIGN}/{}", container.id);
    container.dir.retire_as(root, &name, &container.id)
}
