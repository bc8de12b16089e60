//! What criu is asked for a dump, and what becomes of the container then.

use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use crate::common::Bundle;
use crate::played::{
    Criu, DUMP, Message, PRE_DUMP, done, failed, features, notification, version, word,
};

/// A container with something of everything that comes from outside.
fn furnished(name: &str) -> Bundle {
    let c = Bundle::new(name, |c| {
        c["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"destination": "/var/run/here",
            "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}));
        c["annotations"] = json!({"org.criu.config": "/etc/passwd"});
    });
    std::fs::create_dir_all(c.file("rootfs/run")).unwrap();
    std::fs::create_dir_all(c.file("rootfs/var")).unwrap();
    std::os::unix::fs::symlink("../run", c.file("rootfs/var/run")).unwrap();
    let mut command = c.command(&["run", "-d", "-b", c.path(), &c.id]);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    assert!(command.status().unwrap().success());
    c
}

fn checkpoint<'a>(c: &'a Bundle, image: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let words = ["checkpoint", "--image-path", image];
    [&words, options, &[c.id.as_str()]].concat()
}

/// Numbers of images/rpc.proto.
#[test]
fn options_reach_criu() {
    let c = furnished("cr-asked");
    let (image, work) = (c.file("a/image"), c.file("a/image/work"));
    std::fs::create_dir_all(c.file("a/earlier")).unwrap();
    let options = [
        "--work-path",
        word(&work),
        "--parent-path",
        "../earlier",
        "--leave-running",
        "--tcp-established",
        "--tcp-skip-in-flight",
        "--link-remap",
        "--ext-unix-sk",
        "--shell-job",
        "--file-locks",
        "--auto-dedup",
        "--lazy-pages",
        "--status-fd",
        "2",
        "--page-server",
        "192.0.2.7:77",
        "--manage-cgroups-mode",
        "full",
        "--empty-ns",
        "network",
    ];
    let answers = [version(4, 2), features(true, true), done(DUMP)];
    let criu = Criu::plays(&c, &answers);
    criu.hull(&c, &checkpoint(&c, word(&image), &options)).ok();
    assert_eq!(c.sh(&[], "echo on").ok(), "on\n");
    let request = criu.asked(2);
    assert_eq!(request.get(1), Some(DUMP));
    let asked = request.messages(2).remove(0);
    assert_eq!(asked.get(2), Some(u64::try_from(c.pid()).unwrap()));
    for switch in [3, 4, 5, 7, 8, 12, 15, 16, 18, 46, 48, 50] {
        assert_eq!(asked.get(switch), Some(1), "{switch}");
    }
    assert_eq!((asked.get(34), asked.get(49)), (Some(4), Some(2)));
    assert_eq!(asked.get(38), Some(0x4000_0000));
    assert_eq!(asked.texts(10), ["dump.log"]);
    assert_eq!(asked.texts(13), [word(&c.file("rootfs"))]);
    assert_eq!(asked.texts(14), ["../earlier"]);
    assert_eq!(asked.texts(51), ["/etc/passwd"]);
    let server = asked.messages(11).remove(0);
    assert_eq!(server.texts(1), ["192.0.2.7"]);
    assert_eq!(server.get(2), Some(77));
    let freezer = asked.texts(44).remove(0);
    assert!(freezer.starts_with("/sys/fs/cgroup") && freezer.ends_with(&c.id));
    // By the name that the mount has in the container.
    let here = ("/run/here".to_owned(), "/run/here".to_owned());
    assert!(asked.pairs(23).contains(&here), "{asked:?}");
    let streams = std::fs::read(image.join("descriptors.json")).unwrap();
    let streams: Vec<String> = serde_json::from_slice(&streams).unwrap();
    assert_eq!(streams, ["/dev/null"; 3]);
}

#[test]
fn absent_options_are_not_asked_for() {
    let c = furnished("cr-plain");
    let image = c.file("image");
    let answers = [
        version(4, 2),
        notification("post-dump", c.pid()),
        done(DUMP),
    ];
    let criu = Criu::plays(&c, &answers).kills(c.pid(), 2);
    criu.hull(&c, &checkpoint(&c, word(&image), &[])).ok();
    let asked = criu.asked(1).messages(2).remove(0);
    for switch in [3, 4, 5, 7, 8, 15, 16, 18, 46, 48, 49] {
        assert_eq!(asked.get(switch), None, "{switch}");
    }
    assert_eq!(asked.get(34), Some(3), "soft is the default");
    // The notification is acknowledged, and the container has gone.
    assert_eq!(criu.asked(2).get(3), Some(1));
    assert!(c.on(&["state"], &[]).stderr.contains("does not exist"));
}

#[test]
fn a_pre_dump_saves_memory_only() {
    let c = furnished("cr-pre");
    let image = c.file("image");
    let words = checkpoint(&c, word(&image), &["--pre-dump"]);
    let criu = Criu::plays(&c, &[version(4, 2), features(false, true)]);
    let output = criu.hull(&c, &words);
    assert_eq!(output.code, Some(1));
    let text = "criu 4.2 on this kernel cannot track changes of memory";
    assert!(output.stderr.contains(text), "{output:?}");
    let criu = Criu::plays(&c, &[version(4, 2), features(true, true), done(PRE_DUMP)]);
    criu.hull(&c, &words).ok();
    assert_eq!(criu.asked(2).get(1), Some(PRE_DUMP));
    let asked = criu.asked(2).messages(2).remove(0);
    assert_eq!((asked.get(15), asked.messages(23)), (Some(1), vec![]));
    assert!(!image.join("descriptors.json").exists());
    assert_eq!(c.sh(&[], "echo on").ok(), "on\n");
}

/// Whatever criu says or does not say is one line, and the container goes on.
#[test]
fn failures_are_told() {
    let c = furnished("cr-fail");
    let image = c.file("image");
    let log = image.join("dump.log");
    let cases: [(&[Message], &str, &str); 6] = [
        (&[version(2, 12)], "", "criu 2.12 is too old: 3.0 or newer"),
        (
            &[version(4, 2), failed(DUMP, "Error (a.c:1): because\n")],
            "",
            "criu 4.2 failed: because (log file: ",
        ),
        (
            &[version(4, 2), failed(DUMP, "")],
            "(00.1) Error (criu/x.c:7): the cause\n(00.2) Error (y.c:8): later\n",
            "criu 4.2 failed: the cause (log file: ",
        ),
        (
            &[version(3, 17), failed(DUMP, "")],
            "(00.1) Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n",
            "install criu 4.0 or newer",
        ),
        (
            &[version(4, 2)],
            "",
            "criu 4.2 failed: criu ended without an answer (log file: ",
        ),
        (&[], "", "criu ended without an answer"),
    ];
    for (answers, text, wanted) in cases {
        std::fs::create_dir_all(&image).unwrap();
        std::fs::write(&log, text).unwrap();
        let criu = Criu::plays(&c, answers);
        let output = criu.hull(&c, &checkpoint(&c, word(&image), &[]));
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.contains(wanted), "{output:?}, not {wanted}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    }
    let mut without = c.command(&checkpoint(&c, word(&image), &[]));
    without.env("PATH", "/nowhere");
    let output = crate::common::finish(without);
    assert!(output.stderr.contains("criu is not in PATH"), "{output:?}");
    assert_eq!(c.sh(&[], "echo on").ok(), "on\n");
}

#[test]
fn an_earlier_image_must_be_there() {
    let c = furnished("cr-parent");
    let image = c.file("image");
    for (parent, wanted) in [("/tmp", "must be relative"), ("../none", "no such file")] {
        let words = checkpoint(&c, word(&image), &["--parent-path", parent]);
        let criu = Criu::plays(&c, &[version(4, 2)]);
        let output = criu.hull(&c, &words);
        assert!(output.stderr.contains(wanted), "{output:?}");
        assert_eq!(criu.count(), 0);
    }
}

/// A descriptor of the host's /dev would belong to a mount that is not in the image.
#[test]
fn null_streams_are_the_containers_own() {
    let c = furnished("cr-null");
    let script = "stat -Lc %d:%i /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2 /dev/null | uniq";
    let one = c.sh(&[], script).ok();
    assert_eq!(one.lines().count(), 1, "{one}");
    let host = std::fs::metadata("/dev/null").unwrap();
    let host = format!("{}:{}\n", host.dev(), host.ino());
    assert_ne!(one, host);
}
