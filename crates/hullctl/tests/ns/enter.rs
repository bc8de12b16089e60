//! `hullctl ns enter` beside nsenter(1), and namespaces that are kept.

use std::os::fd::AsRawFd as _;
use std::process::Command;

use crate::support::{Standing, inode, link, ns, refused, script, shown};

const ALL: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

#[test]
fn each_namespace_and_all_of_them() {
    let target = Standing::new(&["-fpmuinCUT", "-r", "--mount-proc"]);
    let pid = target.pid.to_string();
    let read = "for n in cgroup ipc net uts; do readlink /proc/self/ns/$n; done";
    let mut theirs = Command::new("nsenter");
    theirs.args(["-t", &pid, "-a", "sh", "-c", read]);
    let inside = shown(ns(&["enter", "-t", &pid, "-a", "sh", "-c", read]));
    assert_eq!(inside, shown(theirs));
    let expected: Vec<String> = ["cgroup", "ipc", "net", "uts"]
        .map(|k| target.link(k))
        .into();
    assert_eq!(inside.lines().collect::<Vec<_>>(), expected);
    assert_eq!(
        shown(ns(&["enter", "--target", &pid, "--all", "id", "-u"])),
        "0\n"
    );
    let listed = shown(ns(&["enter", "-t", &pid, "-a", "ps", "-A", "-o", "comm="]));
    assert_eq!(listed, "sleep\nps\n");
    for kind in ["uts", "net", "ipc"] {
        let option = format!("--{kind}");
        let path = format!("/proc/self/ns/{kind}");
        let found = shown(ns(&["enter", "-t", &pid, "-U", &option, "readlink", &path]));
        assert_eq!(found.trim(), target.link(kind), "{kind}");
    }
    assert_ne!(target.link("time"), link(target.pid.min(2), "time"));
    assert_eq!(ALL.len(), 8);
}

#[test]
fn values_right_after_their_letters() {
    let target = Standing::new(&["-fnpu"]);
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", target.pid);
    let read = ["readlink", "/proc/self/ns/net", "/proc/self/ns/uts"];
    let (net, uts) = (format!("-n{}", path("net")), format!("-u{}", path("uts")));
    let words = [&["enter", &net, &uts, "-r/", "-w/tmp"][..], &read].concat();
    let inside = shown(ns(&words));
    assert_eq!(
        inside,
        format!("{}\n{}\n", target.link("net"), target.link("uts"))
    );
    let mut theirs = Command::new("nsenter");
    theirs.args(&words[1..]);
    assert_eq!(inside, shown(theirs));
    let wrong = refused(ns(&["enter", "--no-such-option", "true"]));
    assert!(
        wrong.contains("--no-such-option: no such option"),
        "{wrong}"
    );
    let wrong = refused(ns(&["unshare", "-n", "--no-such-option", "true"]));
    assert!(
        wrong.contains("--no-such-option: no such option"),
        "{wrong}"
    );
}

#[test]
fn the_process_that_was_meant_and_no_other() {
    let target = Standing::new(&["-fu"]);
    let pid = target.pid;
    let fd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::PidfdFlags::empty(),
    );
    let number = rustix::fs::fstat(fd.unwrap()).unwrap().st_ino;
    let words = format!("{pid}:{number}");
    shown(ns(&["enter", "-t", &words, "-u", "true"]));
    let e = refused(ns(&["enter", "-t", &format!("{pid}:1"), "-u", "true"]));
    assert!(e.contains("another one now"), "{e}");
    let e = refused(ns(&["enter", "-u", "true"]));
    assert!(e.contains("Name a process with --target"), "{e}");
}

#[test]
fn root_working_directory_and_environment_of_the_target() {
    let target = Standing::new(&["-fmp", "-R", "/usr", "-w", "/share"]);
    let pid = target.pid.to_string();
    let pwd = |options: &[&str]| {
        let words: Vec<&str> = ["enter", "-t", &pid]
            .iter()
            .chain(options)
            .copied()
            .collect();
        let mut command = ns(&words);
        command.args(["/bin/pwd"]);
        shown(command)
    };
    assert_eq!(pwd(&["-r", "-w"]), "/share\n");
    assert_eq!(pwd(&["--root", "--wdns=/lib"]), "/lib\n");
    assert_eq!(pwd(&["-w"]), "/usr/share\n");
    let mut command = Command::new("env");
    command.args(["MARK=yes", "sleep", "1000"]);
    let mut marked = command.spawn().unwrap();
    let pid = marked.id().to_string();
    let environ = format!("/proc/{pid}/environ");
    while !std::fs::read_to_string(&environ)
        .unwrap()
        .contains("MARK=yes")
    {
        std::thread::yield_now();
    }
    let seen = shown(ns(&["enter", "-t", &pid, "-e", "printenv", "MARK"]));
    marked.kill().unwrap();
    marked.wait().unwrap();
    assert_eq!(seen, "yes\n");
}

#[test]
fn by_socket_by_number_and_by_owner() {
    let target = Standing::new(&["-fUrn"]);
    let pid = target.pid.to_string();
    // Our own socket: its namespace is ours.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = std::process::id().to_string();
    let fd = socket.as_raw_fd().to_string();
    let found = shown(ns(&[
        "enter",
        "-t",
        &own,
        "-N",
        &fd,
        "readlink",
        "/proc/self/ns/net",
    ]));
    assert_eq!(found.trim(), link(own.parse().unwrap(), "net"));
    let words = [
        "enter",
        "-t",
        &pid,
        "-n",
        "--user-parent",
        "readlink",
        "/proc/self/ns/user",
    ];
    assert_eq!(shown(ns(&words)).trim(), target.link("user"));
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    if let Ok(number) = sys::nsfs::id(&file) {
        let option = format!("--net=:{number}");
        let found = shown(ns(&["enter", &option, "readlink", "/proc/self/ns/net"]));
        assert_eq!(found.trim(), target.link("net"));
    }
    assert!(!inode(&target.link("net")).is_empty());
}

#[test]
fn in_the_targets_control_groups() {
    let dir = std::path::Path::new("/sys/fs/cgroup/unified");
    let dir = if dir.exists() {
        dir
    } else {
        dir.parent().unwrap()
    };
    let dir = dir.join(format!("hull-test-enter-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let target = Standing::new(&["-fu"]);
    let pid = target.pid.to_string();
    std::fs::write(dir.join("cgroup.procs"), &pid).unwrap();
    let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
    let joined = shown(ns(&[
        "enter",
        "-t",
        &pid,
        "-u",
        "--join-cgroup",
        "cat",
        "/proc/self/cgroup",
    ]));
    drop(target);
    while std::fs::remove_dir(&dir).is_err() {
        std::thread::yield_now();
    }
    assert!(joined.contains(&format!("0::/{name}")), "{joined}");
}

/// In a mount namespace of its own, so that nothing stays on the machine.
fn apart(text: &str) -> String {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec"]);
    command.arg(format!("mount -t tmpfs tmpfs /run; {text}"));
    command.env("H", format!("{} ns", env!("CARGO_BIN_EXE_hullctl")));
    shown(command)
}

#[test]
fn namespaces_that_stay() {
    let text = "$H add blue --net --uts; ip netns list; ip netns exec blue ip -o link | wc -l
        $H enter --uts=/run/utsns/blue hostname azure; $H enter --uts=/run/utsns/blue hostname
        $H ls -P -t net -n -o TYPE,NSFS; ip netns add red; $H rm red; $H rm blue; ls /run/netns /run/utsns";
    let out = apart(text);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..5],
        ["/run/utsns/blue", "/run/netns/blue", "blue", "1", "azure"],
        "{out}"
    );
    assert!(out.contains("net /run/netns/blue"), "{out}");
    assert!(!lines.contains(&"red"), "{out}");
    let e = apart(
        "$H add blue >/dev/null; $H add blue 2>&1 || $H rm blue; $H rm blue 2>&1 || :; $H add ../x 2>&1 || :",
    );
    for complaint in ["exists already", "no such namespace", "is no name"] {
        assert!(e.contains(complaint), "{e}");
    }
}

#[test]
fn namespaces_kept_by_unshare() {
    let out = apart(
        "mkdir /run/ns; mount --bind /run/ns /run/ns; mount --make-private /run/ns
        $H unshare --uts=/run/ns/u --mount=/run/ns/m --net=/run/ns/n sh -c 'hostname kept; mount -t tmpfs inside /mnt'
        nsenter --uts=/run/ns/u hostname; $H enter --mount=/run/ns/m grep -c ^inside /proc/mounts
        $H unshare --fork --pid=/run/ns/p --user=/run/ns/U -r true; nsenter --user=/run/ns/U id -u",
    );
    assert_eq!(out, "kept\n1\n0\n");
    // No script: what is wrong is said.
    let mut command = script("$H unshare --uts=/nowhere/u true");
    command.env_remove("LANG");
    assert!(refused(command).contains("open(/nowhere/u"));
}
