//! `hullctl ns ls`, `diff` and `why-shared`.

use std::process::{Command, Stdio};

use crate::support::{Standing, inode, ns, refused, run, shown};

#[test]
fn the_same_rows_as_lsns() {
    let target = Standing::new(&["-fpmuinCUT", "-r", "--mount-proc"]);
    let pid = target.pid.to_string();
    for columns in [
        "NS,TYPE,NPROCS,PID",
        "NS,TYPE,PPID,UID,USER",
        "NS,TYPE,PNS,ONS",
        "NS,PATH,COMMAND",
    ] {
        let mut theirs = Command::new("lsns");
        theirs.args(["-l", "-r", "-n", "-p", &pid, "-o", columns]);
        let sorted = |text: String| {
            let mut lines: Vec<String> = text.lines().map(|l| l.trim_end().to_owned()).collect();
            lines.sort();
            lines
        };
        let ours = sorted(shown(ns(&[
            "ls", "-l", "-r", "-n", "-p", &pid, "-o", columns,
        ])));
        let theirs = sorted(shown(theirs));
        assert_eq!(ours.len(), 8, "{ours:?}");
        if columns.contains("PNS") {
            // Debian's shows 0 for none.
            assert_eq!(
                ours.iter()
                    .filter(|l| l.contains(inode(&target.link("user"))))
                    .count(),
                8
            );
        } else {
            assert_eq!(ours, theirs, "{columns}");
        }
    }
}

#[test]
fn filters_types_and_formats() {
    let target = Standing::new(&["-fpun"]);
    let uts = target.link("uts");
    let number = inode(&uts);
    let filter = format!("NS == {number} && TYPE == \"uts\" and NPROCS >= 1");
    assert_eq!(
        shown(ns(&["ls", "-n", "-l", "-o", "NS", "-Q", &filter])).trim(),
        number
    );
    let json = shown(ns(&["ls", "-J", "-t", "uts", "-Q", &filter]));
    assert!(json.contains(&format!("\"ns\": {number}")), "{json}");
    let inside = shown(ns(&["ls", number]));
    assert!(inside.contains("sleep 1000"), "{inside}");
    let mut theirs = Command::new("lsns");
    theirs.args(["-n", "-r", "-o", "PID,TYPE,NPROCS", number]);
    let ours = shown(ns(&["ls", "-n", "-r", "-o", "PID,TYPE,NPROCS", number]));
    assert_eq!(ours, shown(theirs));
    let kinds = shown(ns(&[
        "ls", "-t", "net", "-t", "uts", "-n", "-o", "TYPE", "-l",
    ]));
    assert!(kinds.lines().all(|k| k == "net" || k == "uts"), "{kinds}");
    assert!(shown(ns(&["ls", "-H"])).contains("CONTAINER"));
    assert!(shown(ns(&["ls", "--output-all", "-p", &target.pid.to_string()])).contains("NETNSID"));
    for (words, complaint) in [
        (&["ls", "-o", "NOPE"][..], "no such column"),
        (&["ls", "-t", "nope"], "no such kind"),
        (&["ls", "-Q", "NS >"], "something is missing"),
        (
            &["ls", "--tree=x"],
            "say process, parent, owner or container",
        ),
        (&["ls", "1"], "no such namespace"),
    ] {
        let e = refused(ns(words));
        assert!(e.contains(complaint), "{words:?}: {e}");
    }
}

#[test]
fn trees() {
    let target = Standing::new(&[
        "-fpU",
        "-r",
        "sh",
        "-c",
        "exec \"$@\"",
        "-",
        "unshare",
        "-fp",
    ]);
    let (user, pid) = (target.link("user"), target.link("pid"));
    let (user, pid) = (inode(&user), inode(&pid));
    let by_owner = shown(ns(&["ls", "--tree=owner", "-o", "NS,TYPE"]));
    // What else is below it is between the two.
    let mut below = by_owner.lines().skip_while(|l| !l.contains(user)).skip(1);
    let owned = below.by_ref().take_while(|l| !l.ends_with("user"));
    assert!(owned.into_iter().any(|l| l.contains(pid)), "{by_owner}");
    let by_parent = shown(ns(&["ls", "--tree=parent", "-t", "user", "-o", "NS,TYPE"]));
    let row = by_parent.lines().find(|l| l.contains(user)).unwrap();
    assert!(row.contains("─user"), "{by_parent}");
}

#[test]
fn a_container_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("state");
    let root = root.to_str().unwrap();
    let name = format!("hull-test-ns-{}", std::process::id());
    let mut container = Command::new(env!("CARGO_BIN_EXE_hullctl"));
    container.args(["run", "--root", root, "--name", &name, "host", "--", "cat"]);
    // It ends, and is cleared away, when its input does: also where this test fails.
    container.stdin(Stdio::piped());
    let mut container = container.spawn().unwrap();
    let tree = loop {
        let tree = shown(ns(&["ls", "--tree=container", "--root", root]));
        if tree.contains(&format!("{name} (1 processes)")) && tree.contains("net ") {
            break tree;
        }
        std::thread::yield_now();
    };
    let why = shown(ns(&["why-shared", &name, "--root", root]));
    let json = shown(ns(&["ls", "--json", "--root", root, "-t", "net"]));
    drop(container.stdin.take());
    assert!(container.wait().unwrap().success());
    let part = tree.split(&name).last().unwrap();
    assert!(part.contains("net ") && part.contains(" own"), "{tree}");
    assert!(part.contains("shared with the machine"), "{tree}");
    assert!(why.contains("no `user` in linux.namespaces"), "{why}");
    assert!(why.contains("asks for a new one"), "{why}");
    assert!(
        json.contains(&format!("\"container\": \"{name}\"")),
        "{json}"
    );
}

#[test]
fn what_keeps_two_processes_apart() {
    let target = Standing::new(&["-fmu", "-R", "/usr"]);
    let (own, pid) = (std::process::id().to_string(), target.pid.to_string());
    let out = run(ns(&["diff", &own, &pid]));
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1));
    for word in [
        "uts (host and domain name)",
        &target.link("uts")[5..15],
        "root directory",
        "> /usr",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("net ("), "{text}");
    let same = run(ns(&["diff", &own, &own]));
    assert_eq!(same.status.code(), Some(0), "{same:?}");
    let json = run(ns(&["diff", &own, &pid, "--json"]));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["namespaces"].as_array().unwrap().len(), 2);
    assert!(refused(ns(&["diff", &own, "999999999"])).contains("there is no process"));
}

#[test]
fn why_a_namespace_is_shared() {
    let target = Standing::new(&["-fu"]);
    let pid = target.pid.to_string();
    let why = shown(ns(&["why-shared", &pid]));
    let uts = why.lines().find(|l| l.starts_with("uts")).unwrap();
    assert!(uts.contains("made or entered it; the parent"), "{why}");
    let net = why.lines().find(|l| l.starts_with("net")).unwrap();
    assert!(net.contains("inherited from process"), "{why}");
    assert!(refused(ns(&["why-shared", "no-such-thing"])).contains("there is no container"));
}
