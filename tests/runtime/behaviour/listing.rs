//! `list`, `ps`: tables and JSON.

use runtime_suite::prelude::*;

#[test]
fn list_has_its_columns() {
    case(|t| {
        t.up(|_| {});
        let out = t.runtime(&["list"]).run().ok();
        let mut lines = out.stdout.lines();
        let head: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
        assert_eq!(head, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        let row: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
        assert_eq!(
            row[..4],
            [
                t.id(),
                &t.pid().to_string(),
                "running",
                t.bundle().to_str().expect("UTF-8")
            ]
        );
        assert!(row[4].contains('T') && row[4].ends_with('Z'), "{}", row[4]);
        assert_eq!(row[5], host::user_name());
        assert!(lines.next().is_none());
    });
}

#[test]
fn list_as_json() {
    case(|t| {
        t.up(|c| c["annotations"] = json!({"org.example.key": "value"}));
        let other = t.container("b");
        let _ = other.create(|_| {}).ok();
        let list = t.runtime(&["list", "--format", "json"]).run().ok().json();
        let list = list.as_array().expect("a list");
        assert_eq!(list.len(), 2);
        let find = |id: &str| list.iter().find(|c| c["id"] == id).expect("in the list");
        let (a, b) = (find(t.id()), find(other.id()));
        assert_eq!(
            (&a["status"], &a["pid"]),
            (&json!("running"), &json!(t.pid()))
        );
        assert_eq!(b["status"], "created");
        assert_eq!(a["bundle"], t.bundle().to_str().expect("UTF-8"));
        assert_eq!(a["rootfs"], t.rootfs().to_str().expect("UTF-8"));
        assert_eq!(a["annotations"]["org.example.key"], "value");
        assert_eq!(a["owner"], host::user_name());
        assert!(a["created"].is_string() && a["ociVersion"].is_string());
    });
}

#[test]
fn list_of_nothing() {
    case(|t| {
        let out = t.runtime(&["list", "--format", "json"]).run().ok();
        let list = out.json();
        assert!(list.is_null() || list == json!([]), "{out}");
        let out = t.runtime(&["list", "-q"]).run().ok();
        assert_eq!(out.stdout, "");
        let out = t.runtime(&["list"]).run().ok();
        assert_eq!(out.stdout.lines().count(), 1, "the head: {out}");
    });
}

#[test]
fn list_of_a_root_that_is_missing() {
    case(|t| {
        std::fs::remove_dir_all(t.dir().join("state")).expect("remove");
        let out = t.runtime(&["list", "-q"]).run().ok();
        assert_eq!(out.stdout, "");
    });
}

#[test]
fn list_of_ids_only() {
    case(|t| {
        t.up(|_| {});
        let _ = t.container("b").create(|_| {}).ok();
        for flag in ["-q", "--quiet"] {
            let out = t.runtime(&["list", flag]).run().ok();
            let mut ids: Vec<&str> = out.stdout.lines().collect();
            ids.sort_unstable();
            assert_eq!(ids, [t.id(), &format!("{}-b", t.token())]);
        }
    });
}

#[test]
fn list_shows_stopped_containers_with_pid_0() {
    case(|t| {
        t.up(|_| {});
        t.stop();
        let list = t.runtime(&["list", "-f", "json"]).run().ok().json();
        assert_eq!(
            (&list[0]["status"], &list[0]["pid"]),
            (&json!("stopped"), &json!(0))
        );
    });
}

#[test]
fn list_passes_over_what_is_no_container() {
    case(|t| {
        t.up(|_| {});
        std::fs::create_dir(t.dir().join("state/leftover")).expect("mkdir");
        std::fs::write(t.dir().join("state/file"), "").expect("write");
        let out = t.runtime(&["list", "-q"]).run().ok();
        assert!(out.stdout.lines().any(|l| l == t.id()), "{out}");
    });
}

#[test]
fn an_unknown_format_is_refused() {
    case(|t| {
        t.up(|_| {});
        let _ = t.runtime(&["list", "--format", "yaml"]).run().refused();
        let _ = t
            .runtime(&["ps", "--format", "yaml", t.id()])
            .run()
            .refused();
    });
}

#[test]
fn ps_as_json_holds_all_pids() {
    case(|t| {
        t.up(|c| script(c, "sleep 1000 & sleep 1001 & wait"));
        wait_until("three processes", || {
            runtime_suite::leaks::processes(t.token()).len() == 3
        });
        let list = t
            .runtime(&["ps", "--format", "json", t.id()])
            .run()
            .ok()
            .json();
        let mut pids: Vec<i64> = list
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_i64).collect())
            .unwrap_or_default();
        pids.sort_unstable();
        let mut want: Vec<i64> = runtime_suite::leaks::processes(t.token())
            .into_iter()
            .map(i64::from)
            .collect();
        want.sort_unstable();
        assert_eq!(pids, want);
    });
}

/// procps 4.0 does not understand /proc/stat of user-mode Linux.
fn needs_ps(t: &Case) {
    t.needs(
        host::succeeds("ps", &["-ef"]),
        "a /proc/stat that `ps -ef` understands",
    );
}

#[test]
fn ps_as_a_table() {
    case(|t| {
        needs_ps(t);
        t.up(|_| {});
        let out = t.runtime(&["ps", t.id()]).run().ok();
        let lines: Vec<&str> = out.stdout.lines().collect();
        assert!(
            lines[0].contains("PID") && lines[0].contains("CMD"),
            "{out}"
        );
        assert!(lines[1].contains("sleep 1000") && lines.len() == 2, "{out}");
    });
}

#[test]
fn ps_takes_options_of_ps() {
    case(|t| {
        t.up(|_| {});
        let out = t.runtime(&["ps", t.id(), "-o", "pid,comm"]).run().ok();
        let words: Vec<&str> = out.stdout.split_whitespace().collect();
        assert_eq!(words, ["PID", "COMMAND", &t.pid().to_string(), "sleep"]);
        let out = t.runtime(&["ps", t.id(), "-e", "-x"]).run().ok();
        assert_eq!(out.stdout.lines().count(), 2, "only the container's: {out}");
    });
}

#[test]
fn ps_shows_executed_processes_too() {
    case(|t| {
        needs_ps(t);
        t.up(|_| {});
        let mut exec = t.exec_cmd(&[], &["/bin/sleep", "77"]).spawn();
        wait_until("the process is there", || {
            t.runtime(&["ps", t.id()])
                .run()
                .ok()
                .stdout
                .contains("sleep 77")
                || !exec.is_running()
        });
        assert!(exec.is_running());
    });
}
