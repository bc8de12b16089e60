//! The container's terminal.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rootfs::{Root, prepare};
use rustix::fs::major;
use spec::plan::MountAttrs;

use crate::support::{alone, alone_without, contained, image, mounts, usual};

fn terminal_works() {
    let root = image();
    let mut plan = usual(root.path());
    // A read-only /dev gets its console before it becomes that.
    plan.mounts[1].attrs.set |= MountAttrs::RDONLY;
    contained(&plan, |plan, context| {
        let prepared = prepare(plan, context).unwrap();
        let terminal = prepared.open_terminal().unwrap();
        prepared.bind_console(terminal.slave.as_fd()).unwrap();
        prepared.pivot(false).unwrap();
        prepared.finish().unwrap();
        assert_eq!(mounts()["/dev/console"].root, "/0");
        let console = std::fs::metadata("/dev/console").unwrap();
        assert_eq!(major(console.rdev()), 136);
        let name = rustix::termios::ttyname(&terminal.slave, Vec::new()).unwrap();
        assert_eq!(name.as_c_str(), c"/dev/pts/0");
        let mut opened = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/console")
            .unwrap();
        opened.write_all(b"hello\n").unwrap();
        let mut master = std::fs::File::from(terminal.master);
        let mut line = [0u8; 16];
        let n = master.read(&mut line).unwrap();
        assert_eq!(&line[..n], b"hello\r\n");
        // As exec does it, in the finished container.
        let second = rootfs::open_terminal(&Root::current().unwrap(), None).unwrap();
        let name = rustix::termios::ttyname(&second.slave, Vec::new()).unwrap();
        assert_eq!(name.as_c_str(), c"/dev/pts/1");
    });
}

#[test]
fn terminal() {
    alone(terminal_works);
}

#[test]
fn terminal_on_an_old_kernel() {
    alone_without(
        "tiocgptpeer,open_tree,fsopen,mount_setattr,openat2",
        terminal_works,
    );
}

#[test]
fn a_console_that_is_a_symlink() {
    alone(|| {
        let root = image();
        std::os::unix::fs::symlink("/etc/victim", root.path().join("dev/console")).unwrap();
        std::fs::write(root.path().join("etc/victim"), "x").unwrap();
        let mut plan = usual(root.path());
        plan.mounts.remove(1);
        plan.masked_paths.clear();
        contained(&plan, |plan, context| {
            let prepared = prepare(plan, context).unwrap();
            let terminal = prepared.open_terminal().unwrap();
            // Either refused or mounted over the link itself; never over what it points to.
            let _ = prepared.bind_console(terminal.slave.as_fd());
            prepared.pivot(false).unwrap();
            assert!(!mounts().contains_key("/etc/victim"));
            assert_eq!(std::fs::read("/etc/victim").unwrap(), b"x");
        });
    });
}

#[test]
fn a_devpts_that_is_none() {
    alone(|| {
        let root = image();
        std::fs::create_dir(root.path().join("dev/pts")).unwrap();
        std::fs::write(root.path().join("dev/pts/ptmx"), "").unwrap();
        let mut plan = usual(root.path());
        plan.mounts.truncate(1);
        contained(&plan, |plan, context| {
            let prepared = prepare(plan, context).unwrap();
            let error = prepared.open_terminal().unwrap_err().to_string();
            assert!(error.contains("not a devpts"), "{error}");
        });
        assert!(Path::new("/dev/pts/ptmx").exists());
    });
}
