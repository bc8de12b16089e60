//! `hooks` that fail, hang, or are malformed: an error, and nothing is left.

use runtime_suite::prelude::*;

/// Creates and starts, whichever of them fails is returned.
fn bring_up(t: &Case, change: impl FnOnce(&mut Value)) -> Output {
    let out = t.create(|c| {
        args(c, &["/bin/sleep", "1000"]);
        change(c);
    });
    if out.code() == 0 { t.start() } else { out }
}

/// What is true after a hook of `create` failed: the container never was.
fn as_if_never_tried(t: &Case) {
    let left = runtime_suite::leaks::find(t.token(), t.dir());
    assert!(left.is_empty(), "left behind: {left:#?}");
    assert!(!t.exists());
}

fn fails_in_create(t: &Case, moment: &str) {
    let message = bring_up(t, |c| hook(c, moment, "echo told you so >&2; exit 7")).refused();
    println!("{message}");
    as_if_never_tried(t);
}

#[test]
fn a_failing_prestart_undoes_create() {
    case(|t| fails_in_create(t, "prestart"));
}

#[test]
fn a_failing_create_runtime_undoes_create() {
    case(|t| fails_in_create(t, "createRuntime"));
}

#[test]
fn a_failing_create_container_undoes_create() {
    case(|t| fails_in_create(t, "createContainer"));
}

#[test]
fn poststop_hooks_run_after_a_failed_create() {
    case(|t| {
        let log = t.dir().join("poststop");
        let _ = bring_up(t, |c| {
            hook(c, "createRuntime", "exit 1");
            hook(c, "poststop", &format!("echo x >{}", log.display()));
        })
        .refused();
        assert!(log.exists(), "the life cycle goes on at steps 12 and 13");
    });
}

#[test]
fn a_failing_start_container_stops_the_container() {
    case(|t| {
        let out = bring_up(t, |c| {
            hook(c, "startContainer", "exit 7");
            script(c, "echo x >/data/ran; sleep 1000");
        });
        println!("{}", out.refused());
        let _ = t.delete_force();
        assert!(!t.rootfs().join("data/ran").exists(), "the program ran");
        as_if_never_tried(t);
    });
}

#[test]
fn a_failing_poststart_stops_the_container() {
    case(|t| {
        let out = bring_up(t, |c| hook(c, "poststart", "exit 7"));
        println!("{}", out.refused());
        // "stop the container, and continue the lifecycle at step 12": it is gone, or at least
        // stopped.
        assert!(!t.exists() || t.status() == "stopped");
        let _ = t.delete_force();
        as_if_never_tried(t);
    });
}

#[test]
fn a_failing_poststop_does_not_matter() {
    case(|t| {
        let log = t.dir().join("second");
        t.up(|c| {
            hook(c, "poststop", "cat >/dev/null; exit 7");
            hook(c, "poststop", &format!("echo x >{}", log.display()));
        });
        t.stop();
        let _ = t.delete().ok();
        assert!(log.exists(), "the remaining hooks continue");
        as_if_never_tried(t);
    });
}

#[test]
fn the_rest_of_a_moment_does_not_run_after_a_failure() {
    case(|t| {
        let log = t.dir().join("second");
        let _ = bring_up(t, |c| {
            hook(c, "createRuntime", "exit 7");
            hook(c, "createRuntime", &format!("echo x >{}", log.display()));
        })
        .refused();
        assert!(!log.exists());
    });
}

#[test]
fn a_hook_is_killed_at_its_timeout() {
    case(|t| {
        for moment in ["prestart", "createRuntime", "createContainer"] {
            let begin = Instant::now();
            let out = bring_up(t, |c| {
                hook(c, moment, "exec sleep 1000");
                c["hooks"][moment][0]["timeout"] = json!(1);
            });
            let _ = out.refused();
            let took = begin.elapsed();
            assert!(
                took > Duration::from_millis(900) && took < Duration::from_secs(6),
                "{took:?}"
            );
            as_if_never_tried(t);
        }
    });
}

#[test]
fn a_hook_within_its_timeout_is_left_alone() {
    case(|t| {
        let _ = t
            .run(|c| {
                hook(c, "prestart", "sleep 0.1");
                c["hooks"]["prestart"][0]["timeout"] = json!(15);
            })
            .ok();
    });
}

#[test]
fn a_hook_may_leave_its_input_unread() {
    case(|t| {
        let _ = t
            .run(|c| {
                // More than a pipe holds.
                c["annotations"] = json!({"org.example.big": "x".repeat(200_000)});
                hook(c, "prestart", "exec <&-; sleep 0.1");
            })
            .ok();
    });
}

#[test]
fn a_hook_that_is_missing_is_an_error() {
    case(|t| {
        for moment in [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
        ] {
            let hooks = json!({moment: [{"path": "/nonexistent/hook"}]});
            let message = bring_up(t, |c| c["hooks"] = hooks).refused();
            assert!(message.contains("/nonexistent/hook"), "{moment}: {message}");
            let _ = t.delete_force();
            as_if_never_tried(t);
        }
    });
}

#[test]
fn a_relative_path_is_refused() {
    case(|t| {
        let hooks = json!({"prestart": [{"path": "bin/true"}]});
        let _ = t.create(|c| c["hooks"] = hooks).refused();
    });
}

#[test]
fn a_timeout_that_is_not_above_zero_is_refused() {
    case(|t| {
        for timeout in [0, -1] {
            let hooks = json!({"prestart": [{"path": "/bin/true", "timeout": timeout}]});
            let _ = t.create(|c| c["hooks"] = hooks).refused();
        }
    });
}
