//! `pause`, `resume`.

use runtime_suite::prelude::*;

fn pause(t: &Case) -> Output {
    t.runtime(&["pause", t.id()]).run()
}

fn resume(t: &Case) -> Output {
    t.runtime(&["resume", t.id()]).run()
}

#[test]
fn processes_stand_still_and_go_on() {
    case(|t| {
        t.up(|c| {
            script(
                c,
                "n=0; while :; do n=$((n+1)); echo $n >/data/n; usleep 5000; done",
            )
        });
        let count = || {
            let text = std::fs::read_to_string(t.rootfs().join("data/n")).unwrap_or_default();
            text.trim().parse::<u32>().unwrap_or(0)
        };
        wait_until("it counts", || count() > 3);
        let _ = pause(t).ok();
        assert_eq!(t.status(), "paused");
        let before = std::fs::read(t.rootfs().join("data/n")).expect("read");
        std::thread::sleep(Duration::from_millis(150));
        let after = std::fs::read(t.rootfs().join("data/n")).expect("read");
        assert_eq!(before, after);
        let _ = resume(t).ok();
        assert_eq!(t.status(), "running");
        let then = count();
        wait_until("it counts again", || count() > then + 3);
    });
}

#[test]
fn lists_show_it() {
    case(|t| {
        t.up(|_| {});
        let _ = pause(t).ok();
        let list = t.runtime(&["list", "--format", "json"]).run().ok().json();
        assert_eq!(list[0]["status"], "paused");
        let _ = resume(t).ok();
    });
}

#[test]
fn only_running_containers_are_paused() {
    case(|t| {
        t.up(|_| {});
        let _ = resume(t).refused();
        let _ = pause(t).ok();
        let _ = pause(t).refused();
        let _ = resume(t).ok();
        t.stop();
        let _ = pause(t).refused();
        let _ = resume(t).refused();
    });
}

#[test]
fn a_created_container_is_paused_too() {
    case(|t| {
        let _ = t.create(|c| args(c, &["/bin/sleep", "1000"])).ok();
        let _ = pause(t).ok();
        let _ = resume(t).ok();
        assert_eq!(t.status(), "created");
        let _ = t.start().ok();
    });
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    case(|t| {
        t.up(|c| script(c, "sleep 1000 & wait"));
        let _ = pause(t).ok();
        let _ = t.delete().refused();
        let _ = t.delete_force().ok();
        assert!(!t.exists());
    });
}

#[test]
fn a_paused_container_is_updated() {
    case(|t| {
        t.needs(host::cgroup_v1("pids"), "cgroup v1");
        t.up(|_| {});
        let _ = pause(t).ok();
        let _ = t
            .runtime(&["update", "--pids-limit", "9", t.id()])
            .run()
            .ok();
        assert_eq!(t.status(), "paused", "an update does not thaw");
        let _ = resume(t).ok();
    });
}
