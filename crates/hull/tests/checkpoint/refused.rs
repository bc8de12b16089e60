//! What is refused, and what a criu that cannot work here says.

use crate::common::{Bundle, Output};
use crate::restored::nothing_is_left;
use crate::there_and_back::bundle;
use serde_json::json;

fn checkpoint(c: &Bundle, options: &[&str]) -> Output {
    let image = c.file("image");
    let words = ["checkpoint", "--image-path", image.to_str().unwrap()];
    c.on(&[&words, options].concat(), &[])
}

fn restore(c: &Bundle) -> Output {
    let image = c.file("image");
    let path = image.to_str().unwrap();
    c.on(
        &["restore", "-d", "--image-path", path, "-b", c.path()],
        &[],
    )
}

/// A container that writes nowhere and has no terminal: the easiest there is for criu.
fn easy(name: &str) -> Bundle {
    let c = bundle(name, |c| {
        c["process"]["args"] = json!(["sh", "-c", "i=0; while :; do i=$((i+1)); sleep 0.1; done"]);
    });
    let mut command = c.command(&["run", "-d", "-b", c.path(), &c.id]);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    assert!(command.status().unwrap().success());
    c
}

#[test]
fn there_and_back_or_a_reason() {
    let c = easy("cr");
    let saved = checkpoint(&c, &[]);
    if saved.code == Some(0) {
        assert!(c.on(&["state"], &[]).stderr.contains("does not exist"));
        restore(&c).ok();
        assert_eq!(c.sh(&[], "echo back").ok(), "back\n");
        return;
    }
    assert_eq!(saved.code, Some(1));
    assert!(saved.stderr.contains(" failed: "), "{saved:?}");
    assert!(saved.stderr.contains("dump.log)"), "{saved:?}");
    assert_eq!(saved.stderr.lines().count(), 1, "{saved:?}");
    // It goes on.
    assert_eq!(c.sh(&[], "echo on").ok(), "on\n");
    assert!(c.file("image/descriptors.json").exists());
    c.on(&["delete", "-f"], &[]).ok();
    let restored = restore(&c);
    assert_eq!(restored.code, Some(1));
    assert!(restored.stderr.contains("criu"), "{restored:?}");
    nothing_is_left(&c);
}

#[test]
fn what_cannot_be_asked_for() {
    let c = easy("cr-bad");
    for (options, text) in [
        (
            &["--empty-ns", "mount"][..],
            "namespace \"mount\" is not supported",
        ),
        (&["--page-server", "nowhere"], "--page-server ADDRESS:PORT"),
        (
            &["--manage-cgroups-mode", "soft", "--status-fd", "x"],
            "is not a descriptor",
        ),
    ] {
        let output = checkpoint(&c, options);
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.contains(text), "{output:?}");
    }
    let output = c.on(
        &["restore", "-d", "--image-path", "/none", "-b", c.path()],
        &[],
    );
    assert!(output.stderr.contains("already exists"), "{output:?}");
    c.on(&["delete", "-f"], &[]).ok();
    let output = c.on(
        &["restore", "-d", "--image-path", "/none", "-b", c.path()],
        &[],
    );
    assert!(
        output.stderr.contains("no such file or directory"),
        "{output:?}"
    );
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
}

#[test]
fn a_container_that_is_not_running_is_refused() {
    let c = Bundle::new("cr-created", |_| {});
    c.hull(&["create", "-b", c.path(), &c.id]).ok();
    let output = checkpoint(&c, &[]);
    let text = "container cannot be checkpointed in the created state";
    assert!(output.stderr.contains(text), "{output:?}");
}

/// What restored processes are measured by, on processes that were not restored.
#[test]
fn a_process_is_measured_against_the_configuration() {
    let c = Bundle::running("cr-verify", |c| {
        c["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/here",
            "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}));
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]});
    });
    let config = std::fs::read(c.file("config.json")).unwrap();
    let mut spec = spec::parse_config(&config).unwrap();
    let measure = |spec: &spec::oci::Spec, pid: i32| {
        let (plan, _) = spec::Plan::new(spec, &c.dir).unwrap();
        runtime::criu::verify(&plan, &[pid]).map_err(|e| e.to_string())
    };
    measure(&spec, c.pid()).unwrap();
    let file = c.file("pid");
    let words = [
        "exec",
        "-d",
        "--cap",
        "CAP_SYS_PTRACE",
        "--pid-file",
        file.to_str().unwrap(),
    ];
    c.on(&words, &["sleep", "1000"]).ok();
    let more: i32 = std::fs::read_to_string(&file).unwrap().parse().unwrap();
    let text = measure(&spec, more).unwrap_err();
    assert!(text.contains("has CAP_SYS_PTRACE"), "{text}");
    spec.mounts.retain(|m| m.destination != "/here");
    let text = measure(&spec, c.pid()).unwrap_err();
    assert!(text.contains("sees a mount on /here"), "{text}");
}
