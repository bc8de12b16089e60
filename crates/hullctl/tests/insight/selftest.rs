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

/// Debian 12's are older than some of the attacks: what counts is that they are tried.
#[test]
fn others_are_tried_too() {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let (_, findings) = selftest(Path::new(runtime));
        let tried = findings
            .iter()
            .filter(|f| f["outcome"] != "skipped")
            .count();
        assert!(tried > 15, "{runtime}: {findings:#?}");
        for f in &findings {
            println!(
                "{runtime}\t{}\t{}\t{}\t{}",
                f["class"], f["attack"], f["outcome"], f["detail"]
            );
        }
    }
}

/// A runtime that does nothing but run the program on the machine is found out.
#[test]
fn a_runtime_that_isolates_nothing_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("naked");
    let script = "#!/bin/sh\nset -e\n\
        while [ $# -gt 0 ]; do case $1 in run) c=run;; --bundle) b=$2; shift;; --root) shift;; delete|exec|spec) exit 1;; esac; shift; done\n\
        cd $b/rootfs; jq -r '.process.args[]' ../config.json | { read p; xargs -d '\\n' .$p; }\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = hullctl();
    command
        .args(["selftest", "--escape", "--only", "processes", "--runtime"])
        .arg(&path);
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(
        text.contains("BROKEN") && text.contains("0 held, 1 broken"),
        "{text}"
    );
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
        .args(["selftest", "--escape", "--runtime", "/bin/false"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2), "{out:?}");
}
