//! `hull spec` and `hull features`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;
use std::process::{Command, Output};

const HULL: &str = env!("CARGO_BIN_EXE_hull");

fn hull(args: &[&str], dir: &Path) -> Output {
    Command::new(HULL)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap()
}

#[test]
fn the_configuration_written_is_one_that_can_be_run() {
    let dir = std::env::temp_dir().join(format!("hull-spec-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    assert!(hull(&["spec"], &dir).status.success());
    let path = dir.join("config.json");
    let bytes = std::fs::read(&path).unwrap();
    let config = spec::parse_config(&bytes).unwrap();
    spec::Plan::new(&config, &dir).unwrap();

    let again = hull(&["spec"], &dir);
    assert_eq!(again.status.code(), Some(1));
    let text = String::from_utf8(again.stderr).unwrap();
    assert!(
        text.contains("file config.json exists. Remove it first"),
        "{text}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), bytes);

    std::fs::remove_file(&path).unwrap();
    let elsewhere = Path::new("/");
    let bundle = dir.to_str().unwrap();
    assert!(
        hull(&["spec", "--rootless", "-b", bundle], elsewhere)
            .status
            .success()
    );
    let config = spec::parse_config(&std::fs::read(&path).unwrap()).unwrap();
    let linux = config.linux.unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(linux.uid_mappings[0].host_id, own);
    assert!(linux.namespaces.iter().any(|n| n.kind == "user"));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn features_are_what_callers_read() {
    let output = hull(&["features"], Path::new("/"));
    assert!(output.status.success());
    let features: spec::oci::Features = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(features.oci_version_min, "1.0.0");
    assert!(features.hooks.iter().any(|h| h == "createContainer"));
    assert!(features.mount_options.iter().any(|o| o == "rro"));
    assert!(features.linux.mount_extensions.idmap.enabled);
    assert!(features.linux.seccomp.enabled);
}
