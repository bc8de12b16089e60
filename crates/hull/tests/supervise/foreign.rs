//! Containers of another runtime, and what only some have.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use supervise::protocol::{Create, Delete, ExecSync, External, Request, Stdio};

use crate::logs::part;
use crate::support::{Pod, is_alive, wait_until};

fn runc(pod: &Pod) -> Option<External> {
    let places = ["/usr/sbin/runc", "/usr/bin/runc"];
    let path = places.iter().find(|p| Path::new(p).exists());
    Some(External {
        path: path
            .expect("runc is among the packages of scripts/deps")
            .into(),
        root: Some(pod.dir.join("runc")),
    })
}

#[test]
fn runc_in_place_of_the_runtime_built_in() {
    let mut pod = Pod::new("runc");
    let script = "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let create = Create {
        runtime: runc(&pod),
        ..pod.script("c", script)
    };
    let id = create.id.clone();
    let (pid, _) = pod.run(create);
    wait_until("its output", || pod.log("c").contains("up").then_some(()));
    let wish = ExecSync {
        id: id.clone(),
        args: ["sh", "-c", "echo inside; exit 2"]
            .map(str::to_owned)
            .to_vec(),
        ..ExecSync::default()
    };
    let got = pod.client.exec_sync(wish).unwrap();
    assert_eq!(
        (got.output.ended.code, &got.stdout[..]),
        (Some(2), &b"inside\n"[..])
    );
    pod.stop("c", 15, Duration::from_secs(60));
    assert_eq!(pod.exit("c").ended.code, Some(3));
    pod.client.delete(&id, true).unwrap();
    assert!(!is_alive(pid));
    let terminal = pod.bundle("t", |c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["args"] = json!(["sh", "-c", "stty size; exit 5"]);
    });
    let create = Create {
        runtime: runc(&pod),
        stdio: Stdio::Terminal,
        ..terminal
    };
    let (_, parts) = pod.run(create);
    assert!(part(parts, supervise::protocol::Part::Terminal).is_some());
    assert_eq!(pod.exit("t").ended.code, Some(5));
    let missing = pod.bundle("m", |c| c["process"]["args"] = json!(["/no/such"]));
    let missing = Create {
        runtime: runc(&pod),
        ..missing
    };
    let e = pod.client.create(missing).unwrap_err();
    assert!(e.to_string().contains("no such file"), "{e}");
}

#[test]
fn a_container_with_a_user_namespace() {
    let mut pod = Pod::new("userns");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&pod.dir, mode).unwrap();
    let create = pod.bundle("c", |c| {
        c["process"]["args"] = json!(["sh", "-c", "cat /proc/self/uid_map; exit 4"]);
        let kinds = c["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        c["linux"]["uidMappings"] = map.clone();
        c["linux"]["gidMappings"] = map;
    });
    pod.run(create);
    assert_eq!(pod.exit("c").ended.code, Some(4));
    assert!(pod.text("c", "stdout").contains("100000"));
}

#[test]
fn a_create_that_hangs_can_be_given_up() {
    let mut pod = Pod::new("hang");
    let create = pod.bundle("c", |c| {
        c["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "4321"]}]});
    });
    let id = create.id.clone();
    let mut slow = pod.connect();
    let number = slow.send(Request::Create(Box::new(create)), &[]).unwrap();
    wait_until("it is being made", || {
        let list = pod.client.list().unwrap();
        list.iter().any(|s| s.create.id == id).then_some(())
    });
    // Others are not held up meanwhile.
    pod.run_to_end("d", "true");
    let wish = Delete {
        id: id.clone(),
        force: true,
    };
    let mut other = pod.connect();
    let delete = other.send(Request::Delete(wish), &[]).unwrap();
    other.reply(delete).unwrap();
    assert!(slow.reply(number).is_err());
    let list = pod.client.list().unwrap();
    assert!(list.iter().all(|s| s.create.id != id));
    assert!(!pod.root().join(&id).exists(), "its state is left");
    wait_until("the hook is gone", || {
        let found = std::process::Command::new("pgrep")
            .args(["-fx", "sleep 4321"])
            .output()
            .unwrap();
        found.stdout.is_empty().then_some(())
    });
}

#[test]
fn others_see_the_containers() {
    let mut pod = Pod::new("seen");
    let create = pod.script("c", "sleep 1000");
    let id = create.id.clone();
    let (pid, _) = pod.run(create);
    let hull = |args: &[&str]| {
        let mut command = std::process::Command::new(crate::support::HULL);
        command.arg("--root").arg(pod.root()).args(args);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let listed = hull(&["list", "-f", "json"]);
    assert!(
        listed.contains(&id) && listed.contains(&pid.to_string()),
        "{listed}"
    );
    assert_eq!(hull(&["exec", &id, "echo", "here"]), "here\n");
    // One that is killed from outside has an end like any other.
    hull(&["kill", &id, "KILL"]);
    let exit = pod.exit("c");
    assert_eq!((exit.ended.signal, exit.killed_by), (Some(9), None));
}

#[test]
fn a_frozen_container_can_be_stopped() {
    let mut pod = Pod::new("frozen");
    let create = pod.script("c", "sleep 1000");
    let id = create.id.clone();
    pod.run(create);
    let mut command = std::process::Command::new(crate::support::HULL);
    command.arg("--root").arg(pod.root()).args(["pause", &id]);
    assert!(command.status().unwrap().success());
    let wish = ExecSync {
        id,
        args: vec!["true".to_owned()],
        ..ExecSync::default()
    };
    let e = pod.client.exec_sync(wish).unwrap_err();
    assert!(e.to_string().contains("paused"), "{e}");
    pod.stop("c", 15, Duration::from_millis(100));
    assert_eq!(pod.exit("c").ended.signal, Some(9));
}
