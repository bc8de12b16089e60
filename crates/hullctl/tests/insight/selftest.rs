//! The escapes, tried on hull and on the runtimes that Debian has.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{hull, hullctl};

fn selftest(runtime: &Path) -> (i32, Vec<Value>) {
    // crun of Debian 12 refuses to run beside a mounted version 2 tree.
    let script = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        script,
        "-",
        env!("CARGO_BIN_EXE_hullctl"),
    ]);
    command
        .args(["selftest", "--escape", "--format", "json", "--runtime"])
        .arg(runtime);
    let out = command.output().unwrap();
    let findings = serde_json::from_slice(&out.stdout);
    let findings = findings.unwrap_or_else(|e| panic!("{}: {e}: {out:?}", runtime.display()));
    (out.status.code().unwrap(), findings)
}

#[test]
fn hull_holds() {
    let (code, findings) = selftest(&hull());
    let bad: Vec<&Value> = findings.iter().filter(|f| f["outcome"] != "held").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(findings.len() > 20 && code == 0);
}

/// What the runtimes of Debian 12 are known to let through: it must be found.
const BROKEN: [(&str, &str, &[&str]); 2] = [
    (
        "/usr/sbin/runc",
        "runc version 1.1.5",
        &["CVE-2026-41579", "GHSA-7ww5-4wqc-m92c"],
    ),
    (
        "/usr/bin/crun",
        "crun version 1.8.1",
        &["CVE-2024-40635", "CVE-2026-41579", "GHSA-7ww5-4wqc-m92c"],
    ),
];

#[test]
fn others_are_tried_too() {
    for (runtime, version, broken) in BROKEN {
        let (code, findings) = selftest(Path::new(runtime));
        let of = |outcome: &str| -> Vec<&str> {
            let fitting = findings.iter().filter(|f| f["outcome"] == outcome);
            fitting.filter_map(|f| f["cve"].as_str()).collect()
        };
        assert!(of("held").len() > 15, "{runtime}: {findings:#?}");
        assert_eq!(
            of("skipped"),
            Vec::<&str>::new(),
            "{runtime}: {findings:#?}"
        );
        let out = Command::new(runtime).arg("--version").output().unwrap();
        // Another version may have mended them.
        if String::from_utf8_lossy(&out.stdout).starts_with(version) {
            let mut found = of("broken");
            found.sort_unstable();
            assert_eq!(found, broken, "{runtime}: {findings:#?}");
            assert_eq!(code, 1);
        }
    }
}

/// What is said of a runtime that is this script; it must be called broken.
fn broken(dir: &Path, script: &str, class: &str) -> String {
    let path = dir.join("runtime");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = hullctl();
    command
        .args(["selftest", "--escape", "--only", class, "--runtime"])
        .arg(&path);
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(text.contains("BROKEN"), "{text}");
    text
}

/// A runtime that does nothing but run the program on the machine is found out.
#[test]
fn a_runtime_that_isolates_nothing_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\nset -e\n\
        while [ $# -gt 0 ]; do case $1 in run) c=run;; --bundle) b=$2; shift;; --root) shift;; delete|exec|spec) exit 1;; esac; shift; done\n\
        cd $b/rootfs; jq -r '.process.args[]' ../config.json | { read p; xargs -d '\\n' .$p; }\n";
    let text = broken(dir.path(), script, "processes");
    assert!(text.contains("0 held, 1 broken"), "{text}");
}

/// One whose `exec` runs a program of the machine among the container's processes is found out, too.
#[test]
fn a_runtime_that_can_be_overwritten_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let sleep = dir.path().join("sleep");
    std::fs::copy("/bin/sleep", &sleep).unwrap();
    let script = format!(
        "#!/bin/sh\n\
        [ $3 != exec ] || exec nsenter -p -t $({hull} --root $2 state $4 | jq .pid) {sleep} 0.1\n\
        exec {hull} \"$@\"\n",
        hull = hull().display(),
        sleep = sleep.display(),
    );
    let text = broken(dir.path(), &script, "executable");
    assert!(text.contains("can be overwritten"), "{text}");
}

#[test]
fn hull_hands_over() {
    let mut command = Command::new(hull());
    let out = command
        .args(["selftest", "--escape", "--only", "identity"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && text.contains("CVE-2022-29162"),
        "{out:?}"
    );
    let out = hullctl()
        .args(["selftest", "--escape", "--runtime", "false"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{out:?}");
}
