//! buildah run, and a build, on the runtime under test.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs;

use client_suite::scripts::HOG;
use client_suite::{Arena, Pty, Run, docker_archive};

/// buildah with storage of its own.
struct Buildah {
    arena: Arena,
}

impl Buildah {
    fn new(test: &str) -> Self {
        let arena = Arena::new(test);
        Self { arena }
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        let storage = self.arena.path("storage");
        let base = ["buildah", "--root", &storage, "--runroot", "/run/buildah"];
        let words = base.into_iter().chain(["--storage-driver", "overlay"]);
        words
            .chain(args.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        self.arena.run(&self.words(args))
    }

    /// A working container made from the base image.
    fn from(&self, options: &[&str]) -> String {
        let image = format!("docker-archive:{}", docker_archive().display());
        let parent = self.arena.cgroup_parent();
        let mut args = vec!["from", "--quiet", "--cgroup-parent", &parent];
        args.extend([
            "--ulimit",
            "nofile=1000:1000",
            "--ulimit",
            "nproc=1000:1000",
        ]);
        args.extend(options);
        args.push(&image);
        self.run(&args).ok().trim().to_owned()
    }

    /// The words of `buildah run OPTIONS CONTAINER -- sh -c SCRIPT` with the runtime under test.
    fn run_words(&self, container: &str, options: &[&str], script: &str) -> Vec<String> {
        let runtime = self.arena.runtime_path();
        let mut args = vec![
            "run",
            "--isolation",
            "oci",
            "--runtime",
            &runtime,
            "--network",
            "none",
        ];
        args.extend(options);
        args.extend([container, "--", "sh", "-c", script]);
        self.words(&args)
    }

    #[track_caller]
    fn container(&self, container: &str, options: &[&str], script: &str) -> Run {
        self.arena.run(&self.run_words(container, options, script))
    }

    #[track_caller]
    fn finish(self) {
        self.run(&["rm", "--all"]).ok();
        let storage = format!("mount {}", self.arena.path("storage/overlay"));
        self.arena.finish(&[&storage, "mount /run/buildah/"]);
    }
}

#[test]
fn run_returns_output_and_status() {
    let b = Buildah::new("run");
    let c = b.from(&[]);
    let run = b.container(
        &c,
        &["--env", "COLOUR=blue", "--hostname", "abc"],
        "echo $COLOUR; hostname; echo problem >&2; exit 7",
    );
    assert_eq!(run.exits(7).out, "blue\nabc\n");
    assert!(run.err.contains("problem\n"), "{run:?}");
    b.container(&c, &["--user", "guest"], "test $(id -u) = 1000")
        .ok();
    b.container(&c, &[], "echo kept > /kept").ok();
    assert_eq!(b.container(&c, &[], "cat /kept").ok(), "kept\n");
    b.finish();
}

#[test]
fn limits_capabilities_and_volumes() {
    let b = Buildah::new("limits");
    let c = b.from(&["--memory", "64m", "--memory-swap", "64m"]);
    let volume = format!("{}:/shared:ro", b.arena.path(""));
    fs::write(b.arena.dir().join("file"), "there\n").unwrap();
    let script = "cat /shared/file; touch /shared/x; chown guest /tmp; grep -E '^(CapEff|Seccomp):' /proc/self/status";
    let run = b.container(&c, &["--cap-drop", "all", "--volume", &volume], script);
    assert_eq!(run.ok(), "there\nCapEff:\t0000000000000000\nSeccomp:\t2\n");
    assert!(run.err.contains("Read-only file system"), "{run:?}");
    assert!(run.err.contains("Operation not permitted"), "{run:?}");
    let run = b.container(&c, &[], &format!("exec {HOG}"));
    assert!(
        run.exits(1).err.contains("container exited on killed"),
        "{run:?}"
    );
    b.finish();
}

#[test]
fn an_interactive_terminal() {
    let b = Buildah::new("tty");
    let c = b.from(&[]);
    let words = b.run_words(&c, &["--terminal"], "exec sh");
    let mut terminal = Pty::spawn(&b.arena.command(&words), 30, 90);
    terminal.expect("# ");
    terminal.send("echo a$((20 + 3))b; tty\n");
    terminal.expect("a23b");
    terminal.expect("/dev/pts/0");
    terminal.expect_size(30, 90);
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait().code(), Some(5));
    drop(terminal);
    b.finish();
}

#[test]
fn build_from_a_containerfile() {
    let b = Buildah::new("build");
    let image = format!("docker-archive:{}", docker_archive().display());
    b.run(&["pull", "--quiet", &image]).ok();
    let file = "FROM localhost/base:1\nRUN echo layer > /layer && test $$ = 1\nRUN cat /layer && hostname\n";
    let context = b.arena.dir().join("context");
    fs::create_dir(&context).unwrap();
    fs::write(context.join("Containerfile"), file).unwrap();
    let runtime = b.arena.runtime_path();
    let parent = b.arena.cgroup_parent();
    let context = context.display().to_string();
    let args = [
        "build",
        "--isolation",
        "oci",
        "--runtime",
        &runtime,
        "--network",
        "none",
        "--cgroup-parent",
        &parent,
        "--ulimit",
        "nofile=1000:1000",
        "--ulimit",
        "nproc=1000:1000",
        "--pull-never",
        "--tag",
        "built",
        &context,
    ];
    let run = b.run(&args);
    assert!(run.ok().contains("layer\n"), "{run:?}");
    b.finish();
}
