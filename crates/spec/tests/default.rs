//! `default_spec` against what Debian's runc writes.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::path::Path;
use std::process::Command;

use serde_json::ser::PrettyFormatter;
use spec::Plan;

/// As `hull spec` prints it: runc's indentation is a tab.
fn text(spec: &spec::oci::Spec) -> String {
    let mut out = Vec::new();
    let format = PrettyFormatter::with_indent(b"\t");
    let mut to = serde_json::Serializer::with_formatter(&mut out, format);
    serde::Serialize::serialize(spec, &mut to).unwrap();
    String::from_utf8(out).unwrap()
}

/// Lines in which the two differ, with `-` for ours and `+` for theirs. Both have the same lines
/// in the same order but for these.
fn difference(ours: &str, theirs: &str) -> Vec<String> {
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
    // Longest common subsequence, by its table.
    let mut table = vec![vec![0; theirs.len() + 1]; ours.len() + 1];
    for i in (0..ours.len()).rev() {
        for j in (0..theirs.len()).rev() {
            table[i][j] = if ours[i] == theirs[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < ours.len() || j < theirs.len() {
        if i < ours.len() && j < theirs.len() && ours[i] == theirs[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == theirs.len() || (i < ours.len() && table[i + 1][j] >= table[i][j + 1]) {
            out.push(format!("-{}", ours[i].trim()));
            i += 1;
        } else {
            out.push(format!("+{}", theirs[j].trim()));
            j += 1;
        }
    }
    out
}

/// Differences that are meant. The version and the host name are our own; runc 1.1 asks for
/// ambient capabilities that without inheritable ones cannot be had, newer ones no longer do.
/// Energy counters are masked besides (GHSA-7ww5-4wqc-m92c).
const MEANT: &[&str] = &[
    "-\"ociVersion\": \"1.3.0\",",
    "+\"ociVersion\": \"1.0.2-dev\",",
    "+],",
    "+\"ambient\": [",
    "+\"CAP_AUDIT_WRITE\",",
    "+\"CAP_KILL\",",
    "+\"CAP_NET_BIND_SERVICE\"",
    "-\"hostname\": \"hull\",",
    "+\"hostname\": \"runc\",",
    "-\"/sys/devices/virtual/powercap\",",
];

#[test]
fn the_same_as_runc_but_for_what_is_meant() {
    if !Path::new("/usr/sbin/runc").exists() {
        eprintln!("left out: runc is not installed");
        return;
    }
    for rootless in [false, true] {
        let name = format!("hull-default-spec-{}-{rootless}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut runc = Command::new("/usr/sbin/runc");
        runc.arg("spec").arg("--bundle").arg(&dir);
        if rootless {
            runc.arg("--rootless");
        }
        let status = runc.status();
        let theirs = std::fs::read_to_string(dir.join("config.json"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(status.unwrap().success());
        let theirs = theirs.unwrap();
        let ours = text(&spec::default_spec(rootless));
        let mut difference = difference(&ours, &theirs);
        // On a machine with cgroup v2 alone runc adds a namespace, as the caller of ours does.
        difference.retain(|line| !line.contains("\"cgroup\""));
        assert_eq!(difference, MEANT, "rootless {rootless}");
    }
}

#[test]
fn it_makes_a_plan_without_a_warning_and_survives_a_round_trip() {
    for rootless in [false, true] {
        let spec = spec::default_spec(rootless);
        let (_, warnings) = Plan::new(&spec, Path::new("/bundle")).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let again = spec::parse_config(text(&spec).as_bytes()).unwrap();
        assert_eq!(text(&again), text(&spec));
    }
}
