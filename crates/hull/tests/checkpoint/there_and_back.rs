//! A real criu: what was running goes on where it was, and everything around it is the same.
//! Where the criu in PATH cannot work, that is said.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::common::{Bundle, end_of, wait_until};
use crate::played::word;

/// Whether it works here; said past the test harness where it does not.
fn works(test: &str) -> bool {
    let check = Command::new("criu").arg("check").output();
    let told = match check {
        Ok(out) if out.status.success() => return true,
        Ok(out) => String::from_utf8_lossy(&out.stderr).into_owned(),
        Err(e) => e.to_string(),
    };
    let reason = told.lines().next().unwrap_or("criu check failed");
    let line = format!("\nNOT RUN: {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

/// Whether this criu is one that forgets no_new_privs and a read-only root.
fn forgets() -> bool {
    let version = Command::new("criu").arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let old = ["Version: 3.17", "Version: 3.18"];
    old.iter().any(|old| version.starts_with(old))
}

/// A bundle of which this criu can restore everything.
pub fn bundle(name: &str, change: impl FnOnce(&mut Value)) -> Bundle {
    Bundle::new(name, |c| {
        if forgets() {
            c["process"]["noNewPrivileges"] = json!(false);
            c["root"]["readonly"] = json!(false);
        }
        change(c);
    })
}

/// Counts on standard output until it is told to stop.
const COUNT: &str =
    "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 7";

fn quiet(c: &Bundle, args: &[&str]) -> Option<i32> {
    let mut command = c.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    end_of(&mut command.spawn().unwrap())
}

fn start(c: &Bundle) {
    assert_eq!(quiet(c, &["run", "-d", "-b", c.path(), &c.id]), Some(0));
}

fn checkpoint(c: &Bundle, options: &[&str]) {
    let image = c.file("image");
    let words = ["checkpoint", "--image-path", word(&image)];
    c.on(&[&words, options].concat(), &[]).ok();
}

fn restore(c: &Bundle, id: &str, options: &[&str]) -> Option<i32> {
    let image = c.file("image");
    let words = ["restore", "-d", "--image-path", word(&image)];
    quiet(c, &[&words, options, &["-b", c.path(), id]].concat())
}

fn with_output(c: &Bundle, args: &[&str]) -> (Child, impl Iterator<Item = u32> + use<>) {
    let mut child = c.command(args).stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let lines = out.lines().map(|line| line.unwrap().parse().unwrap());
    (child, lines)
}

#[test]
fn streams_and_exit_codes_go_on() {
    if !works("restore with the streams of the caller") {
        return;
    }
    let c = bundle("cr-pipes", |c| {
        c["root"]["readonly"] = json!(false);
        c["process"]["args"] = json!(["sh", "-c", COUNT]);
    });
    let (mut first, mut lines) = with_output(&c, &["run", "-b", c.path(), &c.id]);
    assert_eq!(lines.by_ref().take(3).last(), Some(3));
    checkpoint(&c, &[]);
    let last = lines.last().unwrap_or(3);
    end_of(&mut first);
    assert!(c.on(&["state"], &[]).stderr.contains("does not exist"));
    let image = c.file("image");
    let words = [
        "restore",
        "--image-path",
        word(&image),
        "-b",
        c.path(),
        &c.id,
    ];
    let (mut second, mut lines) = with_output(&c, &words);
    assert_eq!(lines.next(), Some(last + 1));
    c.sh(&[], "touch /tmp/stop").ok();
    assert!(lines.count() < 1000);
    assert_eq!(end_of(&mut second), Some(7));
    assert!(c.on(&["state"], &[]).stderr.contains("does not exist"));
}

/// What can be seen of a container's first process.
fn seen(c: &Bundle) -> Vec<String> {
    let script =
        "cut -d' ' -f4- /proc/self/mountinfo | sed 's/ master:[0-9]*//; s/ shared:[0-9]*//' | sort
        grep -E '^(Cap|NoNew|Seccomp|Uid|Gid|Groups)' /proc/1/status
        cat /proc/1/limits /proc/1/oom_score_adj /proc/1/cgroup
        readlink /proc/1/fd/0 /proc/1/fd/1 /proc/1/cwd; hostname; ip addr; umask
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced
        ls /proc/1/ns; cat /tmp/held";
    let seen = c.sh(&[], script).ok();
    seen.lines().map(str::to_owned).collect()
}

fn all_is_the_same(name: &str, change: impl FnOnce(&mut Value)) {
    let c = bundle(name, |c| {
        c["mounts"].as_array_mut().unwrap().extend([
            json!({"destination": "/var/run/here", "type": "bind", "source": "/usr/share",
                "options": ["rbind", "ro"]}),
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "size=1m"]}),
        ]);
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]});
        c["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "77"});
        if !forgets() {
            c["linux"]["sysctl"]["kernel.shm_rmid_forced"] = json!("1");
        }
        c["process"]["args"] = json!(["sh", "-c", "echo held > /tmp/held; exec sleep 1000"]);
        change(c);
    });
    // Made here: the root of a user namespace may not.
    std::fs::create_dir_all(c.file("rootfs/run/here")).unwrap();
    std::fs::create_dir_all(c.file("rootfs/var")).unwrap();
    std::os::unix::fs::symlink("../run", c.file("rootfs/var/run")).unwrap();
    start(&c);
    wait_until("the file of the container", || {
        (c.sh(&[], "cat /tmp/held").stdout == "held\n").then_some(())
    });
    let before = seen(&c);
    checkpoint(&c, &[]);
    assert_eq!(restore(&c, &c.id, &[]), Some(0));
    assert_eq!(seen(&c), before);
}

#[test]
fn everything_around_a_process_is_the_same() {
    if works("restore of mounts, rights and names") {
        all_is_the_same("cr-same", |_| {});
    }
}

#[test]
fn a_user_namespace_too() {
    if works("restore of a user namespace") {
        all_is_the_same("cr-users", |c| {
            let spaces = c["linux"]["namespaces"].as_array_mut().unwrap();
            spaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
        });
    }
}

#[test]
fn a_terminal_is_sent_again() {
    if !works("restore with a terminal") {
        return;
    }
    let c = bundle("cr-tty", |c| {
        c["process"]["terminal"] = json!(true);
        c["process"]["args"] = json!(["sh", "-c", "while read a; do echo got $a; done"]);
    });
    let path = c.file("console");
    let listener = UnixListener::bind(&path).unwrap();
    let talk = |text: &[u8], wanted: &str| {
        let (stream, _) = listener.accept().unwrap();
        let (_, master) = runtime::console::receive_fd(&stream).unwrap().unwrap();
        let mut terminal = std::fs::File::from(master);
        terminal.write_all(text).unwrap();
        let lines = BufReader::new(terminal.try_clone().unwrap()).lines();
        let found = lines.map(Result::unwrap).find(|line| line.contains(wanted));
        assert!(found.is_some());
        terminal
    };
    let socket = ["--console-socket", word(&path)];
    let words = ["run", "-d", socket[0], socket[1], "-b", c.path(), &c.id];
    assert_eq!(quiet(&c, &words), Some(0));
    let first = talk(b"one\n", "got one");
    checkpoint(&c, &[]);
    drop(first);
    assert_eq!(restore(&c, &c.id, &socket), Some(0));
    talk(b"two\n", "got two");
}

/// A paused one is saved as well, with the container left as it was, and several may come of it.
#[test]
fn a_paused_container_is_saved_and_stays_paused() {
    if !works("checkpoint of a paused container") {
        return;
    }
    let c = bundle("cr-paused", |_| {});
    start(&c);
    c.on(&["pause"], &[]).ok();
    checkpoint(&c, &["--leave-running"]);
    assert!(c.on(&["state"], &[]).ok().contains("\"paused\""));
    c.on(&["resume"], &[]).ok();
    let other = format!("{}-2", c.id);
    assert_eq!(
        restore(&c, &other, &["--manage-cgroups-mode", "ignore"]),
        Some(0)
    );
    let cgroup = c.hull(&["exec", &other, "cat", "/proc/1/cgroup"]).ok();
    assert!(
        cgroup
            .lines()
            .all(|l| l.ends_with(&other) || l.ends_with('/')),
        "{cgroup}"
    );
    assert_eq!(c.sh(&[], "echo on").ok(), "on\n");
    c.hull(&["delete", "-f", &other]).ok();
}

#[test]
fn an_image_with_more_rights_than_configured_is_refused() {
    if !works("restore of rights that nobody gave") {
        return;
    }
    let c = bundle("cr-rights", |c| {
        let bounding = c["process"]["capabilities"]["bounding"].as_array_mut();
        bounding.unwrap().push(json!("CAP_SYS_PTRACE"));
        // More than one process: the first one's end waits for the other's.
        c["process"]["args"] = json!(["sh", "-c", "sleep 1000 & wait"]);
    });
    start(&c);
    wait_until("the second process", || {
        (c.sh(&[], "pidof sleep").code == Some(0)).then_some(())
    });
    checkpoint(&c, &[]);
    let config = std::fs::read_to_string(c.file("config.json")).unwrap();
    let less = config.replace(",\"CAP_SYS_PTRACE\"", "");
    std::fs::write(c.file("config.json"), less).unwrap();
    assert_eq!(restore(&c, &c.id, &[]), Some(1));
    assert!(!c.file("state").join(&c.id).exists(), "state is left");
    std::fs::write(c.file("config.json"), config).unwrap();
    assert_eq!(restore(&c, &c.id, &[]), Some(0));
}

#[test]
fn an_image_that_lacks_a_part_leaves_nothing() {
    if !works("restore from a broken image") {
        return;
    }
    let c = bundle("cr-broken", |_| {});
    start(&c);
    checkpoint(&c, &[]);
    std::fs::remove_file(c.file("image/core-1.img")).unwrap();
    assert_eq!(restore(&c, &c.id, &[]), Some(1));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&c.id), "a mount is left");
    assert!(!c.file("state").join(&c.id).exists(), "state is left");
}
