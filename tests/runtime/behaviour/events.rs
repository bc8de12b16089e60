//! `events`: statistics and out-of-memory notices.

use runtime_suite::prelude::*;

fn stats(t: &Case) -> Value {
    t.runtime(&["events", "--stats", t.id()]).run().ok().json()
}

#[test]
fn statistics_have_runcs_shape() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
            c["linux"]["resources"]["pids"] = json!({"limit": 30});
        });
        let event = stats(t);
        println!("{event}");
        assert_eq!(
            (&event["type"], &event["id"]),
            (&json!("stats"), &json!(t.id()))
        );
        let data = &event["data"];
        for path in [
            "/cpu/usage/total",
            "/cpu/usage/kernel",
            "/cpu/usage/user",
            "/memory/usage/limit",
            "/memory/usage/usage",
            "/memory/usage/max",
            "/memory/usage/failcnt",
            "/memory/raw/rss",
            "/memory/kernel/usage",
            "/pids/current",
            "/pids/limit",
        ] {
            assert!(
                data.pointer(path).is_some_and(Value::is_number),
                "{path}: {data}"
            );
        }
        assert!(data["cpu"]["usage"]["percpu"].is_array());
        assert!(data["cpu"]["throttling"].is_object());
        assert!(data["blkio"].is_object());
        assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
        assert_eq!(
            (&data["pids"]["current"], &data["pids"]["limit"]),
            (&json!(1), &json!(30))
        );
        assert!(
            data["cpu"]["usage"]["total"]
                .as_u64()
                .is_some_and(|n| n > 0)
        );
    });
}

#[test]
fn one_line_a_document() {
    case(|t| {
        t.up(|_| {});
        let out = t.runtime(&["events", "--stats", t.id()]).run().ok();
        assert_eq!(out.stdout.lines().count(), 1, "{out}");
    });
}

#[test]
fn they_are_repeated_at_an_interval() {
    case(|t| {
        t.up(|_| {});
        let mut events = t
            .runtime(&["events", "--interval", "100ms", t.id()])
            .patience(Duration::from_secs(5))
            .spawn();
        wait_until("three documents", || {
            events.stdout().lines().count() >= 3 || !events.is_running()
        });
        assert!(events.is_running());
        for line in events.stdout().lines().take(3) {
            let event: Value = serde_json::from_str(line).expect("one document a line");
            assert_eq!(event["type"], "stats");
        }
        // They end with the container.
        t.stop();
        let _ = events.wait();
    });
}

#[test]
fn running_out_of_memory_is_an_event() {
    case(|t| {
        t.needs(host::cgroup_v1("memory"), "cgroup v1");
        t.up(|c| {
            c["linux"]["resources"]["memory"] = json!({"limit": 40 << 20, "swap": 40 << 20});
            script(
                c,
                "while [ ! -e /data/go ]; do usleep 10000; done; probe hog 100; sleep 1000",
            );
        });
        let mut events = t.runtime(&["events", "--interval", "60s", t.id()]).spawn();
        std::thread::sleep(Duration::from_millis(400));
        assert!(events.is_running());
        std::fs::write(t.rootfs().join("data/go"), "").expect("write");
        wait_until("the event comes", || {
            events.stdout().lines().any(|l| {
                serde_json::from_str::<Value>(l)
                    .is_ok_and(|e| e["type"] == "oom" && e["id"] == t.id())
            })
        });
        t.stop();
    });
}

#[test]
fn a_stopped_container_has_none() {
    case(|t| {
        t.up(|_| {});
        t.stop();
        let out = t.runtime(&["events", "--stats", t.id()]).run();
        assert_ne!(out.code(), 0, "{out}");
    });
}
