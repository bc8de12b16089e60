//! create, start, state, delete: what may follow what, and what each leaves.

use runtime_suite::prelude::*;

/// A shell that ends with 42 at SIGTERM, as a well-behaved service would.
fn service(c: &mut Value) {
    script(
        c,
        "trap 'exit 42' TERM; echo ready >/data/ready; sleep 1000 & wait",
    );
}

#[test]
fn from_create_to_delete() {
    case(|t| {
        let _ = t.create(service).ok();
        assert_eq!(t.status(), "created");
        let pid = t.pid();
        assert!(runtime_suite::process::is_alive(pid));
        assert!(
            !t.rootfs().join("data/ready").exists(),
            "the program runs already"
        );
        let _ = t.start().ok();
        assert_eq!(t.status(), "running");
        assert_eq!(t.pid(), pid, "the same process");
        wait_until("the program runs", || {
            t.rootfs().join("data/ready").exists()
        });
        let _ = t.kill("TERM").ok();
        t.wait_for("stopped");
        let _ = t.delete().ok();
        assert!(!t.exists());
    });
}

#[test]
fn the_state_document() {
    case(|t| {
        let begin = std::time::SystemTime::now();
        t.up(|c| c["annotations"] = json!({"org.example.key": "value", "other": ""}));
        let state = t.state();
        println!("{state}");
        assert_eq!(state["id"], t.id());
        assert_eq!(state["status"], "running");
        assert_eq!(state["bundle"], t.bundle().to_str().expect("UTF-8"));
        assert_eq!(state["rootfs"], t.rootfs().to_str().expect("UTF-8"));
        assert_eq!(
            state["annotations"],
            json!({"org.example.key": "value", "other": ""})
        );
        assert!(state["pid"].as_i64().is_some_and(|p| p > 1));
        assert!(
            state["ociVersion"]
                .as_str()
                .is_some_and(|v| v.starts_with("1."))
        );
        assert_eq!(state["owner"].as_str().unwrap_or(""), "");
        let created = state["created"].as_str().expect("a time");
        let now: u64 = begin
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let date = std::process::Command::new("date")
            .args(["-d", created, "+%s"])
            .output();
        let date = String::from_utf8(date.expect("run date").stdout).expect("UTF-8");
        let created_s: u64 = date.trim().parse().expect("RFC 3339");
        assert!(created_s.abs_diff(now) < 60, "{created}");
        assert!(
            created.contains('T') && created.ends_with('Z'),
            "RFC 3339 in UTC: {created}"
        );

        t.stop();
        let state = t.state();
        assert_eq!(state["status"], "stopped");
        assert_eq!(state["pid"].as_i64().unwrap_or(0), 0);
    });
}

#[test]
fn a_program_that_ends_leaves_a_stopped_container() {
    case(|t| {
        t.up(|c| args(c, &["/bin/true"]));
        t.wait_for("stopped");
        let _ = t.delete().ok();
    });
}

#[test]
fn a_first_process_that_is_killed_leaves_a_stopped_container() {
    case(|t| {
        let _ = t.create(service).ok();
        t.murder();
        let _ = t.start().refused();
        let _ = t.delete().ok();
        t.up(service);
        t.murder();
        let _ = t.delete().ok();
    });
}

#[test]
fn changes_after_create_have_no_effect() {
    case(|t| {
        let _ = t.create(|c| script(c, "echo old >/data/which")).ok();
        t.write(|c| script(c, "echo new >/data/which"));
        let _ = t.start().ok();
        t.wait_for("stopped");
        let which = std::fs::read_to_string(t.rootfs().join("data/which")).expect("read");
        assert_eq!(which, "old\n");
    });
}

#[test]
fn the_bundle_may_lose_its_configuration_after_create() {
    case(|t| {
        t.up(|_| {});
        std::fs::remove_file(t.bundle().join("config.json")).expect("remove");
        assert_eq!(t.status(), "running");
        let _ = t.exec(&[], &["/bin/true"]).ok();
        t.stop();
        let _ = t.delete().ok();
    });
}

#[test]
fn an_id_that_is_taken_is_refused() {
    case(|t| {
        t.up(|_| {});
        let pid = t.pid();
        let message = t.with_bundle("create", &[]).run().refused();
        assert!(message.contains("exist"), "{message}");
        let _ = t.with_bundle("run", &[]).run().refused();
        assert_eq!(
            (t.status().as_str(), t.pid()),
            ("running", pid),
            "the first is unharmed"
        );
    });
}

#[test]
fn an_id_can_be_used_again() {
    case(|t| {
        for _ in 0..3 {
            t.up(|_| {});
            t.stop();
            let _ = t.delete().ok();
        }
    });
}

#[test]
fn ids_that_are_no_file_names_are_refused() {
    case(|t| {
        t.write(|_| {});
        let bundle = t.bundle().to_str().expect("UTF-8");
        let long = "x".repeat(1025);
        for id in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a\nb",
            "a b",
            "ü",
            "a\u{1b}[0m",
            &long,
        ] {
            let out = t.runtime(&["create", "--bundle", bundle, id]).run();
            assert_ne!(out.code(), 0, "{id:?}: {out}");
            assert!(out.stderr.trim().lines().count() >= 1, "{id:?}");
            let _ = t.runtime(&["state", id]).run().refused();
            let _ = t.runtime(&["kill", id, "KILL"]).run().refused();
        }
        assert!(
            !t.dir().join("x").exists(),
            "a directory outside of the state root"
        );
    });
}

#[test]
fn ids_of_all_allowed_letters() {
    case(|t| {
        t.write(|_| {});
        let bundle = t.bundle().to_str().expect("UTF-8");
        for tail in ["A-z_0.9", "a+b", "x..y"] {
            let id = format!("{}{tail}", t.id());
            let _ = t.runtime(&["run", "--bundle", bundle, &id]).run().ok();
        }
    });
}

#[test]
fn start_is_for_created_containers() {
    case(|t| {
        t.up(service);
        let pid = t.pid();
        let _ = t.start().refused();
        assert_eq!((t.status().as_str(), t.pid()), ("running", pid));
        t.stop();
        let message = t.start().refused();
        println!("{message}");
        assert_eq!(t.status(), "stopped");
    });
}

#[test]
fn delete_is_for_stopped_containers() {
    case(|t| {
        t.up(|_| {});
        let message = t.delete().refused();
        println!("{message}");
        assert_eq!(t.status(), "running");
    });
}

#[test]
fn delete_is_not_for_created_containers() {
    case(|t| {
        let _ = t.create(|_| {}).ok();
        let _ = t.delete().refused();
        assert_eq!(t.status(), "created");
    });
}

#[test]
fn a_forced_delete_is_for_all() {
    case(|t| {
        let _ = t.create(|_| {}).ok();
        let _ = t.delete_force().ok();
        assert!(!t.exists());
        t.up(|_| {});
        let pid = t.pid();
        let _ = t.delete_force().ok();
        assert!(!t.exists() && !runtime_suite::process::is_alive(pid));
        let _ = t.delete_force().ok();
    });
}

#[test]
fn a_forced_delete_kills_all_processes() {
    case(|t| {
        t.up(|c| {
            no_ns(c, "pid");
            script(c, "sleep 1000 & sleep 1001 & wait");
        });
        wait_until("three processes", || {
            runtime_suite::leaks::processes(t.token()).len() == 3
        });
        let _ = t.delete_force().ok();
        assert!(runtime_suite::leaks::find(t.token(), t.dir()).is_empty());
    });
}

#[test]
fn delete_kills_what_outlived_the_first_process() {
    case(|t| {
        t.up(|c| {
            no_ns(c, "pid");
            script(c, "sleep 1000 & true");
        });
        t.wait_for("stopped");
        let _ = t.delete_force().ok();
        assert!(runtime_suite::leaks::find(t.token(), t.dir()).is_empty());
    });
}

#[test]
fn unknown_ids() {
    case(|t| {
        let id = format!("{}-unknown", t.token());
        for command in [
            &["state", &id][..],
            &["start", &id],
            &["kill", &id, "TERM"],
            &["delete", &id],
            &["exec", &id, "true"],
            &["ps", &id],
            &["pause", &id],
            &["resume", &id],
            &["update", "--pids-limit", "10", &id],
        ] {
            let message = t.runtime(command).run().refused();
            let low = message.to_lowercase();
            assert!(
                low.contains("does not exist") || low.contains("no such file"),
                "{command:?}: {message}"
            );
        }
        let _ = t.runtime(&["delete", "--force", &id]).run().ok();
    });
}

#[test]
fn arguments_that_are_missing() {
    case(|t| {
        for command in [
            "create", "start", "state", "kill", "delete", "exec", "pause", "resume",
        ] {
            let out = t.runtime(&[command]).run();
            assert_ne!(out.code(), 0, "{command}: {out}");
            assert!(
                !out.stderr.is_empty() || !out.stdout.is_empty(),
                "{command} says nothing"
            );
        }
        let _ = t.runtime(&["no-such-command"]).run();
    });
}

#[test]
fn a_missing_bundle_is_refused() {
    case(|t| {
        let out = t
            .runtime(&["create", "--bundle", "/nonexistent", t.id()])
            .run();
        let message = out.refused();
        assert!(message.to_lowercase().contains("no such file"), "{message}");
        let empty = t.new_dir("empty");
        let empty = empty.to_str().expect("UTF-8");
        let message = t
            .runtime(&["create", "--bundle", empty, t.id()])
            .run()
            .refused();
        assert!(message.contains("config.json"), "{message}");
    });
}

#[test]
fn without_a_process_only_start_fails() {
    case(|t| {
        let _ = t
            .create(|c| {
                c.as_object_mut()
                    .expect("a configuration")
                    .remove("process");
            })
            .ok();
        assert_eq!(t.status(), "created");
        let _ = t.start().refused();
    });
}

#[test]
fn the_pid_file_holds_the_pid() {
    case(|t| {
        t.write(|c| args(c, &["/bin/sleep", "1000"]));
        let file = t.dir().join("pid");
        let flags = ["--pid-file", file.to_str().expect("UTF-8")];
        let _ = t.with_bundle("create", &flags).run().ok();
        let text = std::fs::read_to_string(&file).expect("read the pid file");
        assert_eq!(text, t.pid().to_string(), "without a line's end");
    });
}

#[test]
fn a_pid_file_that_cannot_be_written_undoes_create() {
    case(|t| {
        t.write(|_| {});
        let flags = ["--pid-file", "/nonexistent/dir/pid"];
        let _ = t.with_bundle("create", &flags).run().refused();
        assert!(!t.exists());
        assert!(runtime_suite::leaks::find(t.token(), t.dir()).is_empty());
    });
}

#[test]
fn many_containers_side_by_side() {
    case(|t| {
        let all: Vec<Container> = (0..8).map(|n| t.container(&format!("c{n}"))).collect();
        let running: Vec<Running> = all
            .iter()
            .map(|c| {
                c.write(|c| args(c, &["/bin/sleep", "1000"]));
                c.with_bundle("run", &["--detach"]).spawn()
            })
            .collect();
        for r in running {
            let _ = r.wait().ok();
        }
        for c in &all {
            assert_eq!(c.status(), "running");
            let _ = c.delete_force().ok();
        }
    });
}
