//! `hullctl ns unshare` beside unshare(1).

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use crate::support::{ns, refused, run, script, shown};

/// Both programs with the same options, running the same script: same output, same end.
#[track_caller]
fn same(options: &[&str], text: &str) -> String {
    let theirs = {
        let mut command = Command::new("unshare");
        command.args(options).args(["sh", "-c", text]);
        run(command)
    };
    let words: Vec<&str> = ["unshare"].iter().chain(options).copied().collect();
    let ours = {
        let mut command = ns(&words);
        command.args(["sh", "-c", text]);
        run(command)
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (text(&ours.stdout), ours.status),
        (text(&theirs.stdout), theirs.status),
        "{options:?}: {} / {}",
        text(&ours.stderr),
        text(&theirs.stderr),
    );
    text(&ours.stdout)
}

/// Prints the kinds of namespaces that are not the test's own.
fn changed() -> String {
    let kinds = [
        "cgroup",
        "ipc",
        "mnt",
        "net",
        "pid_for_children",
        "time_for_children",
        "user",
        "uts",
    ];
    let mut text = String::new();
    for kind in kinds {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let own = own.display();
        text += &format!("test \"$(readlink /proc/self/ns/{kind})\" = '{own}' || echo {kind}\n");
    }
    text
}

#[test]
fn each_namespace_alone_and_all_together() {
    let changed = changed();
    for (option, kind) in [
        ("-m", "mnt\n"),
        ("--uts", "uts\n"),
        ("-i", "ipc\n"),
        ("-n", "net\n"),
        ("-C", "cgroup\n"),
        ("-U", "user\n"),
    ] {
        assert_eq!(same(&[option], &changed), kind, "{option}");
    }
    // Of a new pid namespace the link can only be read once it has a process.
    assert!(same(&["-fp"], &changed).contains("pid_for_children"));
    assert!(same(&["-T", "-f"], &changed).contains("time_for_children"));
    assert_eq!(same(&["-fpmuinCUT", "-r"], &changed).lines().count(), 8);
    assert_eq!(same(&["--uts", "--fork"], &changed), "uts\n");
}

#[test]
fn users() {
    let maps = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups";
    for options in [
        &["-r"][..],
        &["--map-root-user", "--fork"],
        &["-c"],
        &["-U"],
        &["--map-user=7", "--map-group=8"],
        &["--map-user=daemon"],
        &["-U", "--setgroups=deny"],
        &["-r", "--keep-caps"],
        &["-S", "1", "-G", "1"],
        &["-u", "--setuid=1"],
    ] {
        same(options, maps);
    }
    same(&["-r", "--keep-caps"], "grep Cap /proc/self/status; id -G");
}

#[test]
fn ranges_of_users() {
    let map = |options: &[&str]| {
        let words: Vec<&str> = ["unshare", "-U"].iter().chain(options).copied().collect();
        let mut command = ns(&words);
        command.args(["cat", "/proc/self/uid_map"]);
        let text = shown(command);
        let fields = text.split_whitespace().map(|n| n.parse().unwrap());
        fields.collect::<Vec<u64>>()
    };
    assert_eq!(map(&["--map-users=0:1000:5"]), [0, 1000, 5]);
    assert_eq!(map(&["--map-users=1000,0,5"]), [0, 1000, 5]);
    assert_eq!(
        map(&["--map-users=0:1000:5", "--map-users=9:2000:1"]),
        [0, 1000, 5, 9, 2000, 1]
    );
    assert_eq!(
        map(&["--map-users=0:1000:5", "--map-user=2"]),
        [0, 1000, 2, 2, 0, 1, 3, 1002, 2]
    );
    assert_eq!(map(&["--map-users=all"]), [0, 0, 4_294_967_295]);
    let e = refused(ns(&["unshare", "--map-users=x", "true"]));
    assert!(e.contains("x: not a map; write inner:outer:count"), "{e}");
    if !std::fs::read_to_string("/etc/subuid").is_ok_and(|t| t.contains("root:")) {
        let e = refused(ns(&["unshare", "--map-auto", "true"]));
        assert!(
            e.contains("/etc/subuid: no range for root; add a line"),
            "{e}"
        );
    }
}

#[test]
fn without_rights() {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args([
        env!("CARGO_BIN_EXE_hullctl"),
        "ns",
        "unshare",
        "-rmupf",
        "--mount-proc",
    ]);
    command.args([
        "sh",
        "-c",
        "id -u; hostname inside; hostname; ls /proc | grep -c '^[0-9]'",
    ]);
    assert_eq!(
        shown(command).lines().take(2).collect::<Vec<_>>(),
        ["0", "inside"]
    );
}

#[test]
fn the_owner_of_a_user_namespace() {
    let mut command = ns(&["unshare", "--owner", "1:1", "--map-root-user", "sh", "-c"]);
    command.arg("id -u; exec sleep 1000");
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let user = std::fs::File::open(format!("/proc/{}/ns/user", child.id()));
    let owner = sys::nsfs::owner_uid(user.unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((line.as_str(), owner.unwrap()), ("0\n", 1));
}

#[test]
fn places() {
    same(
        &["-fp", "--mount-proc"],
        "ls /proc | grep '^[0-9]' | head -1; readlink /proc/self",
    );
    same(
        &["-m", "-R", "/usr", "-w", "/lib"],
        "/bin/sh -c 'pwd' 2>/dev/null || pwd",
    );
    for word in ["private", "shared", "slave", "unchanged"] {
        let option = format!("--propagation={word}");
        // shared:N, master:N: the words count, the numbers are new each time.
        let words = "awk '$5 == \"/\" {print $7}' /proc/self/mountinfo | sed 's/:.*//' | tail -1";
        same(&["-m", &option], words);
    }
    let uptime = "cut -d. -f1 /proc/uptime | sed 's/.....$//'; cat /proc/self/timens_offsets";
    same(
        &["-T", "-f", "--boottime", "500000000", "--monotonic", "-7"],
        uptime,
    );
}

#[test]
fn ends() {
    same(&["-u"], "exit 7");
    same(&["-fp"], "exit 7");
    same(&["-f", "-u"], "kill -TERM $$");
    for (program, code) in [("/nowhere/at/all", 127), ("/etc/passwd", 126)] {
        let ours = run(ns(&["unshare", "-u", program])).status;
        let mut theirs = Command::new("unshare");
        theirs.args(["-u", program]);
        assert_eq!(ours, run(theirs).status, "{program}");
        assert_eq!(ours.code(), Some(code), "{program}");
    }
}

#[test]
fn a_child_that_dies_with_its_parent_and_one_that_gets_its_signals() {
    let text = "$H unshare -fp --kill-child sh -c 'echo $$ >&2; exec sleep 1000' & p=$!
        c=; while [ -z \"$c\" ]; do c=$(cat /proc/$p/task/$p/children); done
        kill -9 $p; while kill -0 $c 2>/dev/null; do sleep 0.1; done; echo gone";
    assert_eq!(shown(script(text)), "gone\n");
    let text = "$H unshare -u --forward-signals sh -c 'trap \"echo heard; exit 3\" TERM; echo on; while :; do sleep 0.1; done' > $0 & p=$!
        until grep -q on $0; do sleep 0.1; done
        kill -TERM $p; wait $p || echo ended $?; cat $0";
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = script(text);
    command.arg(file.path());
    assert_eq!(shown(command), "ended 3\non\nheard\n");
    let killed = run(ns(&["unshare", "-uf", "sh", "-c", "kill -KILL $$"])).status;
    assert_eq!(killed.signal(), Some(9));
}

#[test]
fn the_environment() {
    let mut command = ns(&["unshare", "-u", "--whitelist-env=LEFT,ABSENT", "env"]);
    command.env("LEFT", "here").env("GONE", "x");
    assert_eq!(shown(command), "LEFT=here\n");
    assert_eq!(
        shown(ns(&["unshare", "-u", "--clear-env", "/usr/bin/env"])),
        ""
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (words, complaint) in [
        (&["--boottime", "5", "true"][..], "add --time"),
        (&["-r", "--setgroups=allow", "true"], "exclude each other"),
        (&["--pid=/tmp/x", "true"], "add --fork"),
        (&["--setgroups=deny", "true"], "add --user"),
        (&["-u", "--kill-child=NOPE", "true"], "unknown signal"),
        (
            &["-u", "-S", "nobody-at-all", "true"],
            "no such user in /etc/passwd",
        ),
    ] {
        let words: Vec<&str> = ["unshare"].iter().chain(words).copied().collect();
        let e = refused(ns(&words));
        assert!(
            e.contains(complaint) && e.lines().count() == 1,
            "{words:?}: {e}"
        );
    }
}
