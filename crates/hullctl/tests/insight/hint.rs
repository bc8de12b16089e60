//! `hullctl run` says in one line what killed its container.

use std::process::{Output, Stdio};

use crate::support::{Killed, Place, eventually, hullctl};

fn run(place: &Place, name: &str, options: &[&str], program: &[&str]) -> Output {
    let root = place.root();
    let mut command = hullctl();
    command.args(["run", "--root", root.to_str().unwrap(), "--name", name]);
    command.args(options).args(["host", "--"]).args(program);
    command.output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn out_of_memory() {
    let place = Place::new("hint-oom");
    let name = place.id("hog");
    let hog = ["tail", "/dev/zero"];
    let out = run(&place, &name, &["--memory", "32m"], &hog);
    assert_eq!(out.status.code(), Some(137), "{out:?}");
    let text = said(&out);
    assert_eq!(text.lines().count(), 1, "{text}");
    let root = place.root();
    let more = format!("`hullctl why --root {} {name}`", root.display());
    for part in ["killed for lack of memory", "32 MiB", &more] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What is named there answers.
    let why = place.ask("why", &[&name]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("killed for lack of memory"), "{why}");

    let quiet = run(
        &place,
        &place.id("quiet"),
        &["--memory", "32m", "--quiet"],
        &hog,
    );
    assert_eq!(quiet.status.code(), Some(137), "{quiet:?}");
    assert_eq!(said(&quiet), "");
    // A process of it, not the first one.
    let survives = ["sh", "-c", "tail /dev/zero; exit 4"];
    let other = run(&place, &place.id("other"), &["--memory", "32m"], &survives);
    assert_eq!(other.status.code(), Some(4), "{other:?}");
    assert!(
        said(&other).contains("after a kill for lack of memory"),
        "{other:?}"
    );
}

#[test]
fn killed_by_somebody() {
    let place = Place::new("hint-kill");
    let name = place.id("victim");
    let root = place.root();
    let mut command = hullctl();
    command.args(["run", "--root", root.to_str().unwrap(), "--name", &name]);
    command.args(["host", "--", "sleep", "1000"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    eventually("it can be killed", || {
        let killed = place.hull(&["kill", &name, "KILL"]).output().unwrap();
        killed.status.success().then_some(())
    });
    let mut text = String::new();
    let mut stderr = child.0.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(137));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("killed by SIGKILL, which"), "{text}");
}

#[test]
fn what_needs_no_word() {
    let place = Place::new("hint-plain");
    // By itself, by Ctrl-C, by a pipe that nobody reads.
    for code in [0, 1, 3, 130, 141] {
        let script = format!("exit {code}");
        let name = place.id(&code.to_string());
        let out = run(&place, &name, &[], &["sh", "-c", &script]);
        assert_eq!(out.status.code(), Some(code), "{out:?}");
        assert_eq!(said(&out), "", "{code}");
    }
}
