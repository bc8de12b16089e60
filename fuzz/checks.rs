//! What must hold for any bytes at all. The fuzz targets call these, and so do the ordinary
//! tests of the crate `spec`, for every seed of the corpus.

#![allow(dead_code, reason = "each target calls one of them")]
#![allow(clippy::expect_used, reason = "a test fails by it")]

use std::path::{Component, Path};

use spec::plan::{IdMaps, MountKind, NamespaceKind, ProcessPlan};
use spec::{Error, Plan};

/// A config.json becomes a plan or one line.
pub fn config(bytes: &[u8]) -> Option<Plan> {
    let document = accept(spec::parse_config(bytes))?;
    let text = serde_json::to_vec(&document).expect("documents are JSON");
    let again = spec::parse_config(&text).expect("what we write we read");
    assert_eq!(
        serde_json::to_vec(&again).expect("documents are JSON"),
        text,
        "a document survives being written"
    );
    let (plan, warnings) = accept(Plan::new(&document, Path::new("/bundle")))?;
    warnings.iter().for_each(|w| one_line(w));
    sound(&plan);
    Some(plan)
}

/// A process document becomes a plan or one line.
pub fn process(bytes: &[u8]) -> Option<ProcessPlan> {
    let document = accept(spec::parse_process(bytes))?;
    let (plan, warnings) = accept(ProcessPlan::new(&document, &IdMaps::default()))?;
    warnings.iter().for_each(|w| one_line(w));
    sound_process(&plan);
    Some(plan)
}

/// A resources document is taken or becomes one line; what was taken is taken again unchanged.
pub fn resources(bytes: &[u8]) -> Option<spec::oci::Resources> {
    let document = accept(spec::parse_resources(bytes))?;
    let (checked, warnings) = accept(spec::check_update(&document))?;
    warnings.iter().for_each(|w| one_line(w));
    let (again, warnings) = spec::check_update(&checked).expect("checked resources pass");
    assert!(warnings.is_empty(), "said once: {warnings:?}");
    assert_eq!(again, checked);
    Some(checked)
}

fn accept<T>(result: Result<T, Error>) -> Option<T> {
    result.map_err(|e| one_line(&e.to_string())).ok()
}

fn one_line(message: &str) {
    assert!(!message.is_empty());
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.chars().count() < 2500, "{message:?}");
}

/// Absolute, and nothing in it that a resolver would have to interpret.
fn clean(path: &Path) -> bool {
    let plain = |c: Component| matches!(c, Component::RootDir | Component::Normal(_));
    path.is_absolute() && path.components().all(plain)
}

fn no_nul(text: &str) -> bool {
    !text.contains('\0')
}

fn sound(plan: &Plan) {
    plan.process.iter().for_each(sound_process);
    assert!(plan.root.path.is_absolute());
    assert!(!plan.namespaces.is_inherited(NamespaceKind::Mount));
    assert_eq!(plan.id_maps.uids.is_empty(), plan.id_maps.gids.is_empty());
    if plan.namespaces.is_new(NamespaceKind::User) {
        assert!(!plan.id_maps.is_empty());
    }
    for mount in &plan.mounts {
        assert!(clean(&mount.destination));
        assert_eq!(mount.attrs.set & mount.attrs.clear & !0x70, 0);
        match &mount.kind {
            MountKind::Bind { source, .. } => assert!(source.is_absolute()),
            MountKind::Filesystem {
                fstype,
                source,
                data,
            } => {
                assert!(no_nul(fstype) && no_nul(source) && data.iter().all(|d| no_nul(d)));
            }
            MountKind::Cgroup => {}
        }
    }
    let hidden = plan.masked_paths.iter().chain(&plan.readonly_paths);
    let nodes = plan.devices.iter().map(|d| &d.path);
    assert!(hidden.chain(nodes).all(|path| clean(path)));
    for (path, value) in &plan.sysctl {
        assert!(clean(&Path::new("/proc/sys").join(path)), "{path}");
        assert!(!path.starts_with('/') && !value.contains('\n'));
    }
    let hooks = &plan.hooks;
    for hook in [
        &hooks.create_runtime,
        &hooks.create_container,
        &hooks.start_container,
        &hooks.poststart,
        &hooks.poststop,
    ]
    .into_iter()
    .flatten()
    {
        assert!(hook.path.starts_with('/') && !hook.args.is_empty());
        assert!(hook.timeout.is_none_or(|t| t > 0));
    }
}

fn sound_process(plan: &ProcessPlan) {
    assert!(!plan.args.is_empty() && plan.args.iter().all(|a| no_nul(a)));
    assert!(plan.cwd.is_absolute());
    let mut names = std::collections::HashSet::new();
    for variable in &plan.env {
        let (name, _) = variable.split_once('=').expect("NAME=value");
        assert!(!name.is_empty() && no_nul(variable) && names.insert(name));
    }
    assert_ne!(plan.user.uid, u32::MAX);
    assert_ne!(plan.user.gid, u32::MAX);
    if let Some(sets) = plan.capabilities {
        assert_eq!(sets.effective & !sets.permitted, 0);
        assert_eq!(sets.ambient & !(sets.permitted & sets.inheritable), 0);
    }
    assert!(plan.rlimits.iter().all(|l| l.soft <= l.hard));
}
