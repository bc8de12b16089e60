//! The runtime is killed at any moment of `create`: `delete --force` leaves nothing.

use runtime_suite::prelude::*;
use rustix::process::Signal;

/// As much of what create does as can be had.
fn rich(t: &Case, c: &mut Value) {
    user_ns(c, 200_000, 65536);
    ns(c, "cgroup");
    seccomp(c, &["mkdir"], "SCMP_ACT_ERRNO");
    c["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    c["linux"]["resources"]["pids"] = json!({"limit": 50});
    c["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    bind(c, t.dir(), "/mnt", &["ro"]);
    hook(c, "createRuntime", "true");
    hook(c, "createContainer", "true");
    args(c, &["/bin/sleep", "1000"]);
}

/// Kills `create` after each of many delays, spread over the time that it takes.
fn kill_create(t: &Case, change: impl Fn(&mut Value), rounds: u32) {
    t.write(|c| change(c));
    let begin = Instant::now();
    let _ = t.with_bundle("create", &[]).run().ok();
    let whole = begin.elapsed();
    let _ = t.delete_force().ok();
    // A bound for slow runtimes and busy machines.
    let end = Instant::now() + Duration::from_secs(40) * slowness();
    let mut killed = 0;
    for round in 0..rounds {
        if Instant::now() > end {
            break;
        }
        let create = t.with_bundle("create", &[]).spawn();
        // A step that is no divisor of the range visits other moments in each pass.
        std::thread::sleep(whole * (round * 7919 % rounds) / rounds);
        create.signal(Signal::KILL);
        if create.wait().code() == 137 {
            killed += 1;
        }
        let out = t.delete_force();
        assert_eq!(out.code(), 0, "round {round}: {out}");
        let left = runtime_suite::leaks::find(t.token(), t.dir());
        assert!(
            left.is_empty(),
            "round {round}, killed {killed} times: {left:#?}"
        );
    }
    println!("killed {killed} times within {whole:?}");
    assert!(killed > rounds / 10, "killed only {killed} times");
}

#[test]
fn at_any_moment_of_create() {
    case(|t| kill_create(t, |c| args(c, &["/bin/sleep", "1000"]), 200));
}

#[test]
fn at_any_moment_of_a_rich_create() {
    case(|t| kill_create(t, |c| rich(t, c), 150));
}

#[test]
fn at_any_moment_of_start() {
    case(|t| {
        for round in 0..40_u32 {
            let _ = t.create(|c| args(c, &["/bin/sleep", "1000"])).ok();
            let start = t.runtime(&["start", t.id()]).spawn();
            std::thread::sleep(Duration::from_micros(u64::from(round) * 200));
            start.signal(Signal::KILL);
            let _ = start.wait();
            let status = t.status();
            assert!(status == "created" || status == "running", "{status}");
            let _ = t.delete_force().ok();
        }
    });
}

#[test]
fn at_any_moment_of_delete() {
    case(|t| {
        for round in 0..40_u32 {
            t.up(|_| {});
            let delete = t.runtime(&["delete", "--force", t.id()]).spawn();
            std::thread::sleep(Duration::from_micros(u64::from(round) * 200));
            delete.signal(Signal::KILL);
            let _ = delete.wait();
            let _ = t.delete_force().ok();
            let left = runtime_suite::leaks::find(t.token(), t.dir());
            assert!(left.is_empty(), "round {round}: {left:#?}");
        }
    });
}

fn is_called(pid: i32, name: &str) -> bool {
    let own = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    own.is_ok_and(|n| n.trim_end() == name)
}

#[test]
fn a_create_that_was_killed_does_not_block_the_id() {
    case(|t| {
        t.write(|c| {
            hook(c, "createRuntime", "sleep 1000");
            args(c, &["/bin/sleep", "1000"]);
        });
        let create = t.with_bundle("create", &[]).spawn();
        wait_until("the hook runs", || {
            let processes = runtime_suite::leaks::processes(t.token());
            processes.iter().any(|&pid| is_called(pid, "sleep"))
        });
        create.signal(Signal::KILL);
        let _ = create.wait();
        // The hook is not the container's to kill, but the case's.
        for pid in runtime_suite::leaks::processes(t.token()) {
            if is_called(pid, "sh") || is_called(pid, "sleep") {
                runtime_suite::process::kill(pid, Signal::KILL);
            }
        }
        let _ = t.delete_force().ok();
        t.up(|_| {});
        assert_eq!(t.status(), "running");
    });
}
