//! Checkpoints, as far as criu works here.

use std::time::Duration;

use client_suite::{Kind, criu_refusal, eventually, not_run};

use crate::Podman;

/// Counts in a file and on standard output.
const COUNT: &str = "i=0; while :; do i=$((i + 1)); echo $i; echo $i > /tmp/count; sleep 0.1; done";

fn count(p: &Podman, container: &str) -> u32 {
    let counted = p.run(&["exec", container, "cat", "/tmp/count"]);
    counted.ok().trim().parse().unwrap()
}

/// It goes on, from where it was.
fn goes_on(p: &Podman, container: &str) {
    let before = count(p, container);
    let more = || count(p, container) > before;
    assert!(eventually(Duration::from_secs(20), more), "{container}");
}

#[test]
fn checkpoint_and_restore_where_criu_works() {
    let p = Podman::new("criu");
    p.container(&["--detach", "--name", "c"], COUNT).ok();
    let checkpoint = p.run(&["container", "checkpoint", "c"]);
    if let Some(reason) = criu_refusal() {
        // Even without a container criu cannot work here: then the runtime must pass that on
        // and leave the container running.
        not_run("podman checkpoint and restore", &reason);
        assert!(!checkpoint.status.success(), "{checkpoint:?}");
        // A crun that finds no libcriu says so to podman, which then does not ask it.
        let asked = p.arena.runtime.kind != Kind::Crun;
        assert!(checkpoint.err.contains("criu") || !asked, "{checkpoint:?}");
        assert_eq!(p.inspect("c", "{{.State.Status}}"), "running");
    } else {
        checkpoint.ok();
        assert_eq!(p.inspect("c", "{{.State.Status}}"), "exited");
        p.run(&["container", "restore", "c"]).ok();
        goes_on(&p, "c");
    }
    p.run(&["rm", "--force", "--time", "0", "c"]).ok();
    p.finish();
}

/// An archive of a container becomes another one: a new id, new control groups, the terminal and
/// the volume again.
#[test]
fn an_exported_checkpoint_becomes_another_container() {
    let p = Podman::new("export");
    if let Some(reason) = criu_refusal() {
        not_run("podman checkpoint --export", &reason);
        return p.finish();
    }
    let volume = format!("{}:/here", p.arena.path("storage"));
    let options = ["--detach", "--tty", "--name", "c", "--volume", &volume];
    p.container(&options, COUNT).ok();
    assert!(eventually(Duration::from_secs(20), || {
        p.run(&["exec", "c", "test", "-s", "/tmp/count"])
            .status
            .success()
    }));
    let archive = p.arena.path("c.tar.gz");
    let export = ["container", "checkpoint", "--leave-running", "--export"];
    p.run(&[&export[..], &[&archive, "c"]].concat()).ok();
    assert_eq!(p.inspect("c", "{{.State.Status}}"), "running");
    goes_on(&p, "c");
    let counted = count(&p, "c");
    let import = ["container", "restore", "--name", "d", "--import", &archive];
    p.run(&import).ok();
    goes_on(&p, "d");
    assert!(count(&p, "d") < counted + 50);
    assert_ne!(p.inspect("c", "{{.Id}}"), p.inspect("d", "{{.Id}}"));
    p.run(&["exec", "d", "test", "-d", "/here/overlay"]).ok();
    let logged = || {
        p.run(&["logs", "--tail", "1", "d"])
            .out
            .trim()
            .parse::<u32>()
    };
    assert!(eventually(Duration::from_secs(20), || logged().is_ok()));
    for name in ["c", "d"] {
        p.run(&["rm", "--force", "--time", "0", name]).ok();
    }
    p.finish();
}
