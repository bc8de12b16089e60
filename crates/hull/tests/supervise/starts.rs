//! Starts that take long, and containers that must not come to be.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use supervise::protocol::{Create, LogOptions, Phase};

use crate::support::{Pod, is_alive, wait_until};

/// Begins to start a container, called `held`, whose hook in the container does not end: its id, its
/// first process, and who waits for the start.
fn begin_to_start(pod: &mut Pod) -> (String, i32, JoinHandle<supervise::Result<()>>) {
    let create = pod.bundle("held", |c| {
        c["hooks"] = json!({"startContainer": [
            {"path": "/bin/sleep", "args": ["sleep", "1000"]}
        ]});
    });
    let id = create.id.clone();
    let (init, _) = pod.create(create);
    let start = start_beside(pod, &id);
    wait_for_hook(init);
    (id, init, start)
}

/// Asks for a start over a connection of its own.
fn start_beside(pod: &Pod, id: &str) -> JoinHandle<supervise::Result<()>> {
    let (mut client, id) = (pod.connect(), id.to_owned());
    std::thread::spawn(move || client.start(&id))
}

/// The hook of a container runs, so the start is under way.
fn wait_for_hook(init: i32) {
    let children = format!("/proc/{init}/task/{init}/children");
    wait_until("the hook", || {
        let pids = std::fs::read_to_string(&children).unwrap();
        (!pids.trim().is_empty()).then_some(())
    });
}

#[test]
fn nobody_waits_for_a_start_but_who_has_asked_for_it() {
    let mut pod = Pod::new("slow-start");
    let (id, init, start) = begin_to_start(&mut pod);
    let e = pod.client.start(&id).unwrap_err();
    assert!(e.to_string().contains("not one that can be started"), "{e}");
    pod.run_to_end("other", "echo out");
    assert_eq!(pod.text("other", "stdout"), "out\n");
    assert_eq!(pod.status("held").phase, Phase::Created);
    assert!(!start.is_finished());
    pod.client.delete(&id, true).unwrap();
    let e = start.join().unwrap().unwrap_err();
    assert!(e.to_string().contains("before it was complete"), "{e}");
    assert!(!is_alive(init));
    assert!(pod.client.list().unwrap().iter().all(|s| s.create.id != id));
}

#[test]
fn a_container_that_is_stopped_while_it_is_started_ends() {
    let mut pod = Pod::new("stopped-start");
    let (_, init, start) = begin_to_start(&mut pod);
    pod.stop("held", 15, Duration::from_secs(1000));
    start.join().unwrap().unwrap_err();
    assert_eq!(pod.exit("held").ended.signal, Some(9));
    assert!(!is_alive(init));
}

#[test]
fn hooks_after_a_start_are_waited_for() {
    let mut pod = Pod::new("poststart");
    let done = pod.dir.join("done");
    let script = format!("sleep 0.3; touch {}", done.display());
    let create = pod.bundle("hooked", |c| {
        c["hooks"] = json!({"poststart": [
            {"path": "/bin/sh", "args": ["sh", "-c", script]}
        ]});
    });
    let id = create.id.clone();
    pod.create(create);
    let start = start_beside(&pod, &id);
    // The supervisor serves others meanwhile.
    let mut listed = 0;
    while !start.is_finished() {
        pod.client.list().unwrap();
        listed += 1;
    }
    start.join().unwrap().unwrap();
    assert!(listed > 1, "{listed}");
    assert!(done.exists());
    assert_eq!(pod.status("hooked").phase, Phase::Running);
}

#[test]
fn a_container_whose_log_cannot_be_opened_does_not_come_to_be() {
    let mut pod = Pod::new("no-log");
    let path = pod.dir.join("no/such/directory/log");
    let create = Create {
        log: Some(LogOptions {
            path: path.clone(),
            ..LogOptions::default()
        }),
        ..pod.script("c", "exit 0")
    };
    let id = create.id.clone();
    let e = pod.client.create(create).unwrap_err();
    assert!(e.to_string().contains(path.to_str().unwrap()), "{e}");
    assert_eq!(pod.client.list().unwrap().len(), 0);
    // What the killed worker had made already goes as hulld has it go.
    pod.client.delete(&id, true).unwrap();
    assert_eq!(pod.run_to_end("c", "exit 7").ended.code, Some(7));
}

#[test]
fn a_container_may_end_before_who_has_made_it() {
    let mut pod = Pod::new("short");
    let names: Vec<String> = (0..60).map(|n| format!("c{n}")).collect();
    // Its maker runs on a busy processor, or does not.
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for name in &names {
            let create = Create {
                start: true,
                ..pod.script(name, "exit 7")
            };
            pod.create(create);
            assert_eq!(pod.exit(name).ended.code, Some(7));
        }
        busy.store(false, Ordering::Relaxed);
    });
    let supervisor = pod.supervisor();
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    wait_until("everybody is waited for", || {
        let left = std::fs::read_to_string(&children).unwrap();
        left.trim().is_empty().then_some(())
    });
}
