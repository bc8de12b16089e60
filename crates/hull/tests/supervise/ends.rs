//! Why containers end, and what outlives whom.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use serde_json::json;
use supervise::protocol::{Create, ExecSync, Exit, Oom, Part, Signal, Stdin, What};

use crate::execs::descriptors;
use crate::logs::part;
use crate::support::{LIMIT, Pod, is_alive, launch, launch_without, sandbox, text_of, wait_until};

fn small(pod: &Pod, args: &[&str]) -> Create {
    pod.bundle("c", |c| {
        c["process"]["args"] = json!(args);
        c["linux"]["resources"]["memory"] = json!({"limit": 20_000_000, "swap": 20_000_000});
    })
}

#[test]
fn out_of_memory_is_told_from_a_kill() {
    let mut pod = Pod::new("oom");
    let create = small(&pod, &["dd", "if=/dev/zero", "of=/dev/null", "bs=100M"]);
    let id = create.id.clone();
    pod.run(create);
    let exit = pod.exit("c");
    assert_eq!(exit.ended.signal, Some(9));
    assert_eq!(
        (exit.oom, exit.reason.as_str()),
        (Oom::Container, "OOMKilled")
    );
    pod.client.delete(&id, false).unwrap();
    // A child's death for lack of memory is not the container's, also if that is killed later.
    let script = "dd if=/dev/zero of=/dev/null bs=100M; sleep 1000";
    let create = small(&pod, &["sh", "-c", script]);
    pod.run(create);
    loop {
        if let What::Oom(kills) = pod.event().what {
            assert_eq!(kills, 1);
            break;
        }
    }
    pod.stop("c", 15, Duration::from_millis(100));
    let exit = pod.exit("c");
    assert_eq!(exit.ended.signal, Some(9));
    assert_eq!((exit.oom, exit.reason.as_str()), (Oom::Others, "Error"));
    assert_eq!(exit.killed_by.as_deref(), Some("test: signal 9"));
}

#[test]
fn stops_gently_or_not() {
    let mut pod = Pod::new("stop");
    let create = pod.script(
        "c",
        "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done",
    );
    pod.run(create);
    wait_until("the trap", || pod.log("c").contains("up").then_some(()));
    pod.stop("c", 15, LIMIT);
    let exit = pod.exit("c");
    assert_eq!(exit.ended.code, Some(3));
    assert_eq!(exit.killed_by.as_deref(), Some("test: signal 15"));
    assert_eq!(pod.text("c", "stdout"), "up\nbye\n");
    // Without a handler the first process of a pid namespace does not even notice; a second call
    // with less grace shortens the first one's.
    let create = pod.script("d", "sleep 1000");
    pod.run(create);
    let mut first = pod.connect();
    let wish = pod.stop_wish("d", 15, Duration::from_secs(1000));
    let number = first
        .send(supervise::protocol::Request::Stop(wish), &[])
        .unwrap();
    pod.stop("d", 15, Duration::ZERO);
    first.reply(number).unwrap();
    assert_eq!(pod.exit("d").ended.signal, Some(9));
    // One that has ended is stopped.
    pod.stop("d", 15, LIMIT);
    let signal = Signal {
        id: pod.id("d"),
        signal: 15,
        all: false,
        by: "test".into(),
    };
    assert!(pod.client.signal(signal).is_err());
}

#[test]
fn a_created_one_can_be_stopped_and_deleted() {
    let mut pod = Pod::new("created");
    let create = pod.script("c", "echo never");
    let (pid, _) = pod.create(create);
    pod.stop("c", 15, LIMIT);
    assert!(!is_alive(pid));
    assert_eq!(pod.exit("c").started, "");
    let create = pod.script("d", "sleep 1000");
    let (pid, _) = pod.run(create);
    let id = pod.id("d");
    assert!(pod.client.delete(&id, false).is_err(), "it runs");
    pod.client.delete(&id, true).unwrap();
    assert!(!is_alive(pid));
    let exit = pod.exit("d");
    assert_eq!(exit.killed_by.as_deref(), Some("deleted by force"));
    assert!(matches!(pod.event().what, What::Deleted));
}

#[test]
fn a_killed_supervisor_is_replaced() {
    let mut pod = Pod::new("resume");
    let create = sandbox(&pod);
    let sandbox = pod.create(create);
    let script = "n=0; while [ $n -lt 30000 ]; do n=$((n+1)); echo line $n; done; read x; exit 9";
    let create = pod.script("c", script);
    let create = Create {
        stdin: Stdin::Open,
        ..create
    };
    let (pid, parts) = pod.run(create);
    wait_until("some lines", || (pod.log("c").len() > 20_000).then_some(()));
    pod.replace_supervisor();
    let (id, sandbox_id) = (pod.id("c"), pod.id("sandbox"));
    pod.client.adopt(&sandbox_id, &sandbox.1).unwrap();
    pod.client.adopt(&id, &parts).unwrap();
    assert!(
        pod.client.adopt(&id, &parts).is_err(),
        "it is there already"
    );
    assert!(is_alive(pid));
    // What was written while nobody was there is in the log too, each line once or, in what
    // was being written at that moment, twice.
    wait_until("all lines", || {
        pod.log("c").contains("line 30000\n").then_some(())
    });
    let log = pod.text("c", "stdout");
    let mut next = 1;
    for line in log.lines() {
        let number: u32 = line.strip_prefix("line ").unwrap().parse().unwrap();
        assert!(
            number <= next,
            "{number} after {}: lines are lost",
            next - 1
        );
        next = next.max(number + 1);
    }
    assert_eq!(next, 30_001);
    let wish = ExecSync {
        id: id.clone(),
        args: vec!["true".to_owned()],
        ..ExecSync::default()
    };
    let got = pod.client.exec_sync(wish).unwrap();
    assert_eq!(got.output.ended.code, Some(0));
    let stdin = part(pod.client.keep(&id).unwrap(), Part::Stdin).unwrap();
    rustix::io::write(&stdin, b"\n").unwrap();
    let exit = pod.exit("c");
    assert_eq!(exit.ended.code, Some(9), "{:?}", exit.ended.note);
    pod.stop("sandbox", 9, Duration::ZERO);
    assert_eq!(pod.exit("sandbox").ended.signal, Some(9));
    drop(stdin);
}

#[test]
fn who_ended_without_a_supervisor_is_known_too() {
    let exit = end_alone("alone", |dir| launch(dir, true));
    assert_eq!(exit.ended.code, Some(7), "{:?}", exit.ended.note);
}

#[test]
fn where_the_kernel_cannot_tell_the_code_is_unknown() {
    let exit = end_alone("unknown", |dir| launch_without("pidfd_info", dir, true));
    assert_eq!(exit.ended.code, None);
    assert_eq!(exit.reason, "Unknown");
    let note = exit.ended.note.unwrap();
    assert!(note.contains("while its supervisor was gone"), "{note}");
}

/// A container whose end comes between two supervisors.
fn end_alone(name: &str, next: impl FnOnce(&Path) -> Child) -> Exit {
    let mut pod = Pod::new(name);
    let create = pod.script("c", "read x; echo last words; exit 7");
    let create = Create {
        stdin: Stdin::Open,
        ..create
    };
    let (pid, parts) = pod.run(create);
    let mut child = pod.child.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let stdin = parts.iter().find(|(p, _)| *p == Part::Stdin).unwrap();
    rustix::io::write(&stdin.1, b"\n").unwrap();
    let proc = format!("/proc/{pid}");
    wait_until("its end", || (!Path::new(&proc).exists()).then_some(()));
    pod.child = Some(next(&pod.dir));
    pod.client = pod.connect();
    pod.events = pod.connect();
    pod.events.subscribe(2).unwrap();
    let id = pod.id("c");
    pod.client.adopt(&id, &parts).unwrap();
    let event = pod.events.next_event(LIMIT).unwrap().unwrap();
    let What::Exited(exit) = event.what else {
        panic!("{event:?}");
    };
    assert_eq!(event.number, 3);
    assert_eq!(text_of(&pod.log("c"), "stdout"), "last words\n");
    exit
}

#[test]
fn acknowledged_events_do_not_come_again() {
    let mut pod = Pod::new("journal");
    pod.run_to_end("c", "true");
    pod.client.acknowledge(2).unwrap();
    pod.replace_supervisor();
    let mut late = pod.connect();
    late.subscribe(0).unwrap();
    let event = late.next_event(LIMIT).unwrap().unwrap();
    assert!(matches!(event.what, What::Exited(_)), "{event:?}");
    assert_eq!(event.number, 3);
    // Its exit is on disk, whoever asks.
    let id = pod.id("c");
    pod.client.adopt(&id, &Vec::new()).unwrap();
    assert_eq!(pod.status("c").exit.unwrap().ended.code, Some(0));
}

#[test]
fn many_containers_leave_no_descriptor() {
    let mut pod = Pod::new("many");
    pod.run_to_end("first", "true");
    let id = pod.id("first");
    pod.client.delete(&id, false).unwrap();
    assert!(matches!(pod.event().what, What::Deleted));
    let before = descriptors(&mut pod);
    let names: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    for _ in 0..5 {
        for name in &names {
            let create = pod.script(name, "echo x");
            pod.run(create);
        }
        for name in &names {
            wait_until("its end", || pod.status(name).exit);
        }
        // Whoever does not read its events is cut off.
        for _ in 0..names.len() * 3 {
            pod.event();
        }
        for name in &names {
            let id = pod.id(name);
            pod.client.delete(&id, true).unwrap();
            assert!(matches!(pod.event().what, What::Deleted));
        }
    }
    assert_eq!(descriptors(&mut pod), before);
    assert_eq!(pod.client.list().unwrap().len(), 0);
}
