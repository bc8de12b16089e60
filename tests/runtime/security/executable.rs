//! The runtime's own program file (CVE-2019-5736): whatever of it a container gets to see must
//! not be writable, while it runs and after.

use runtime_suite::prelude::*;

/// All that the strongest container may do, so that no permission is in the attack's way.
fn privileged(c: &mut Value) {
    let all: Vec<&str> = runtime_suite::report::CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(n, _)| host::bounding() & (1 << n) != 0)
        .map(|(_, name)| *name)
        .collect();
    caps(c, &all);
    all_devices(c);
    c["process"]["noNewPrivileges"] = json!(false);
}

fn digest(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("read the runtime")
}

/// Starts the attacker as the first process.
fn attacker(t: &Case) -> Running {
    let attack = t.run_aside(|c| {
        privileged(c);
        args(c, &["/bin/probe", "overwrite"]);
    });
    wait_until("the attacker waits", || {
        attack.stdout().contains("watching")
    });
    attack
}

#[test]
fn an_exec_of_the_runtime_by_its_link() {
    case(|t| {
        let before = digest(&t.program().path);
        let attack = attacker(t);
        for _ in 0..10 {
            // It runs the runtime once more, inside; what that says does not matter.
            let _ = t.exec(&[], &["/proc/self/exe"]);
        }
        t.enough();
        let out = attack.wait().ok();
        println!("{out}");
        assert!(!out.stdout.contains("OVERWRITABLE"));
        assert!(
            digest(&t.program().path) == before,
            "the program has changed"
        );
    });
}

#[test]
fn an_exec_of_a_script_whose_interpreter_is_the_runtime() {
    case(|t| {
        let script = t.rootfs().join("bin/innocent");
        std::fs::write(&script, "#!/proc/self/exe\n").expect("write");
        rustix::fs::chmod(&script, rustix::fs::Mode::from_raw_mode(0o755)).expect("chmod");
        let before = digest(&t.program().path);
        let attack = attacker(t);
        for _ in 0..10 {
            let _ = t.exec(&[], &["/bin/innocent"]);
        }
        t.enough();
        let out = attack.wait().ok();
        println!("{out}");
        assert!(!out.stdout.contains("OVERWRITABLE"));
        assert!(
            digest(&t.program().path) == before,
            "the program has changed"
        );
    });
}

#[test]
fn the_link_as_the_containers_own_program() {
    case(|t| {
        let before = digest(&t.program().path);
        let attack = attacker(t);
        let pid = t.pid();
        let other = t.container("victim");
        for _ in 0..5 {
            // In the attacker's pid namespace, so that it sees the process.
            let _ = other.run(|c| {
                privileged(c);
                join(c, "pid", format!("/proc/{pid}/ns/pid"));
                args(c, &["/proc/self/exe"]);
            });
        }
        t.enough();
        let out = attack.wait().ok();
        println!("{out}");
        assert!(!out.stdout.contains("OVERWRITABLE"));
        assert!(
            digest(&t.program().path) == before,
            "the program has changed"
        );
    });
}

#[test]
fn a_created_container_beside_the_attacker() {
    case(|t| {
        let attack = attacker(t);
        let pid = t.pid();
        let other = t.container("victim");
        let path = format!("/proc/{pid}/ns/pid");
        let _ = other
            .create(|c| {
                privileged(c);
                join(c, "pid", &path);
                args(c, &["/bin/sleep", "1000"]);
            })
            .ok();
        std::thread::sleep(Duration::from_millis(500));
        let _ = other.start().ok();
        std::thread::sleep(Duration::from_millis(300));
        let _ = other.delete_force().ok();
        t.enough();
        let out = attack.wait().ok();
        println!("{out}");
        assert!(!out.stdout.contains("OVERWRITABLE"));
    });
}

/// Control: a program of the host that is bound into the container, writable, is found so by the
/// same attacker, after it has ended.
#[test]
fn control_a_program_of_the_host_is_overwritable() {
    case(|t| {
        let dir = t.new_dir("host-bin");
        let source = t.rootfs().join("bin/busybox");
        let copied = std::process::Command::new("cp")
            .arg(&source)
            .arg(dir.join("sh"))
            .status();
        assert!(copied.expect("run cp").success());
        let attack = t.run_aside(|c| {
            privileged(c);
            bind(c, &dir, "/mnt", &["rw"]);
            args(c, &["/bin/probe", "overwrite"]);
        });
        wait_until("the attacker waits", || {
            attack.stdout().contains("watching")
        });
        let wait = "until [ -e /held ]; do /bin/sleep 0.05; done";
        let victim = t.exec_cmd(&[], &["/mnt/sh", "-c", wait]).spawn();
        wait_until("the attacker holds it", || {
            attack.stdout().contains("held /mnt/sh")
        });
        std::fs::write(t.rootfs().join("held"), "").expect("make a file");
        let _ = victim.wait().ok();
        t.enough();
        let out = attack.wait().ok();
        assert!(out.stdout.contains("OVERWRITABLE"), "{out}");
    });
}
