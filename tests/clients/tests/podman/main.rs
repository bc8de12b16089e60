//! podman on the runtime under test.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod checkpoint;
mod life;
mod options;

use std::fs;

use client_suite::{Arena, Run, docker_archive};

/// podman with storage, locks, networks and configuration of its own.
struct Podman {
    arena: Arena,
    base: Vec<String>,
}

impl Podman {
    fn new(test: &str) -> Self {
        let arena = Arena::new(test);
        // Containers would otherwise get the engine's own limits raised, which a machine
        // without CAP_SYS_RESOURCE refuses.
        let limits = r#"default_ulimits = ["nofile=1000:1000", "nproc=1000:1000"]"#;
        let networks = arena.path("networks");
        let conf = format!(
            "[containers]\n{limits}\nlog_driver = \"k8s-file\"\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{networks}\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
        );
        fs::write(arena.dir().join("containers.conf"), conf).unwrap();
        let base = [
            "podman",
            "--root",
            &arena.path("storage"),
            "--runroot",
            "/run/podman-storage",
            "--tmpdir",
            "/run/podman",
            "--storage-driver",
            "overlay",
            "--runtime",
            &arena.runtime_path(),
        ]
        .map(str::to_owned)
        .to_vec();
        let podman = Self { arena, base };
        let archive = docker_archive().display().to_string();
        podman.run(&["load", "--quiet", "--input", &archive]).ok();
        podman
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        let mut words = self.base.clone();
        words.extend(args.iter().map(|&a| a.to_owned()));
        words
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Run {
        self.arena.run(&self.words(args))
    }

    /// `podman run OPTIONS localhost/base:1 sh -c SCRIPT`, without a network.
    #[track_caller]
    fn container(&self, options: &[&str], script: &str) -> Run {
        let parent = self.arena.cgroup_parent();
        let mut args = vec!["run", "--cgroup-parent", &parent, "--network", "none"];
        args.extend(options);
        args.extend(["localhost/base:1", "sh", "-c", script]);
        self.run(&args)
    }

    fn inspect(&self, container: &str, template: &str) -> String {
        let run = self.run(&["inspect", "--format", template, container]);
        run.ok().trim().to_owned()
    }

    #[track_caller]
    fn finish(self) {
        self.finish_but(&[]);
    }

    #[track_caller]
    fn finish_but(self, may_stay: &[&str]) {
        self.run(&["rm", "--all"]).ok();
        // The storage directory is a private mount of the engine's own; its network namespaces
        // are under /run/netns.
        let storage = self.arena.path("storage/overlay");
        // The monitors share a cgroup that no one removes.
        let own = [&storage, "mount /run/podman-storage/", "mount /run/netns"];
        self.arena
            .finish(&[&own[..], &["/conmon"], may_stay].concat());
    }
}
