//! A container runs, and is the same, on kernels that lack what newer ones have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::{Bundle, finish};
use serde_json::json;

/// What a container tells about itself.
fn report(faked: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let bundle = Bundle::new(&format!("knob-{number}"), |c| {
        let script = "id; hostname; ls /dev; cat /proc/self/cgroup | wc -l; ls /proc/self/fd | wc -l; \
                      cut -d' ' -f5,6 /proc/self/mountinfo | sort; readlink /proc/1/exe; \
                      ls /proc/acpi; cat /proc/keys | wc -c; touch /proc/sys/kernel/hostname; echo $?";
        c["process"]["args"] = json!(["sh", "-c", script]);
        c["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1000}});
        let namespaces = c["linux"]["namespaces"].as_array_mut();
        namespaces.unwrap().push(json!({"type": "time"}));
    });
    let mut command = bundle.command(&["run", "-b", bundle.path(), &bundle.id]);
    command.env(sys::knob::FAKE_ENOSYS, faked);
    let out = finish(command);
    assert_eq!(out.code, Some(0), "without {faked}: {}", out.stderr);
    out.stdout
}

#[test]
fn each_call_may_be_missing() {
    let whole = report("");
    assert!(whole.contains("uid=0"), "{whole}");
    for call in sys::knob::CALLS {
        assert_eq!(report(call), whole, "without {call}");
    }
}

#[test]
fn all_may_be_missing() {
    assert_eq!(report(&sys::knob::CALLS.join(",")), report(""));
}

#[test]
fn the_executable_is_out_of_reach_either_way() {
    for faked in ["", "pr_set_mm_map"] {
        let bundle = Bundle::new("exe", |_| {});
        let mut command = bundle.command(&["create", "-b", bundle.path(), &bundle.id]);
        command.env(sys::knob::FAKE_ENOSYS, faked);
        finish(command).ok();
        let exe = std::fs::read_link(format!("/proc/{}/exe", bundle.pid())).unwrap();
        assert!(exe.to_str().unwrap().starts_with("/memfd:hull"), "{exe:?}");
    }
}
