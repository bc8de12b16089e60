//! `linux.netDevices`: devices of a network namespace that the case made move in.

use std::process::Command;

use runtime_suite::prelude::*;

/// A network namespace of the case, held by a sleeping process, with a device named `dev-out` that
/// has a permanent address.
struct Outside {
    pid: u32,
}

fn outside(t: &Case) -> Outside {
    let mut child = Command::new("unshare")
        .args(["--net", "sleep", "1000"])
        .env(MARK, t.token())
        .spawn()
        .expect("make a network namespace");
    let pid = child.id();
    t.at_end(move || {
        let _ = child.kill();
        let _ = child.wait();
    });
    let own = host::namespace("self", "net");
    wait_until("the namespace is new", || {
        host::namespace(&pid.to_string(), "net") != own
    });
    let outside = Outside { pid };
    outside.ip("link add dev-out type veth peer name peer");
    outside.ip("address add 10.99.0.1/24 dev dev-out");
    outside.ip("address add 2001:db8::7/64 dev dev-out nodad");
    outside
}

impl Outside {
    fn enter(&self, program: &str) -> Command {
        let mut cmd = Command::new("nsenter");
        cmd.arg("--net")
            .arg("--target")
            .arg(self.pid.to_string())
            .arg(program);
        cmd
    }

    /// ip(8) with these words; its output.
    fn ip(&self, words: &str) -> String {
        let out = self
            .enter("ip")
            .args(words.split(' '))
            .output()
            .expect("run ip");
        assert!(
            out.status.success(),
            "ip {words}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Runs the container with the runtime in this namespace.
    fn run(&self, t: &Case, devices: Value, change: impl FnOnce(&mut Value)) -> Output {
        t.write(|c| {
            c["linux"]["netDevices"] = devices;
            script(c, "ip -o addr; ip -o link");
            change(c);
        });
        let outer = {
            let mut cmd = Command::new("nsenter");
            cmd.arg("--net").arg("--target").arg(self.pid.to_string());
            cmd
        };
        t.with_bundle("run", &[]).under(&outer).run()
    }
}

#[test]
fn a_device_moves_in_with_its_addresses() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        let out = net.run(t, json!({"dev-out": {}}), |_| {}).ok();
        assert!(out.stdout.contains("dev-out"), "{out}");
        assert!(out.stdout.contains("10.99.0.1/24"), "{out}");
        assert!(out.stdout.contains("2001:db8::7/64"), "{out}");
        let up = out
            .stdout
            .lines()
            .any(|l| l.contains("dev-out") && l.contains(",UP"));
        assert!(up, "it is up: {out}");
        assert!(
            !net.ip("-o link").contains("dev-out"),
            "it is not outside any more"
        );
    });
}

#[test]
fn a_device_gets_its_new_name() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        let out = net
            .run(t, json!({"dev-out": {"name": "inner0"}}), |_| {})
            .ok();
        assert!(
            out.stdout.contains("inner0") && !out.stdout.contains("dev-out"),
            "{out}"
        );
        assert!(out.stdout.contains("10.99.0.1/24"), "{out}");
    });
}

#[test]
fn a_name_may_be_a_template() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        let out = net
            .run(t, json!({"dev-out": {"name": "net%d"}}), |_| {})
            .ok();
        assert!(out.stdout.contains("net0"), "{out}");
    });
}

#[test]
fn a_device_that_is_missing_is_an_error() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        let message = net.run(t, json!({"nothere": {}}), |_| {}).refused();
        assert!(message.contains("nothere"), "{message}");
    });
}

#[test]
fn a_name_that_is_taken_is_an_error() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        let _ = net
            .run(t, json!({"dev-out": {"name": "lo"}}), |_| {})
            .refused();
        assert!(
            net.ip("-o link").contains("dev-out"),
            "it is back, or never left"
        );
    });
}

#[test]
fn names_that_cannot_be_are_refused() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        for name in ["a-name-that-is-too-long", "a/b", "a b", "..", "%d%d"] {
            let _ = net
                .run(t, json!({"dev-out": {"name": name}}), |_| {})
                .refused();
        }
    });
}

#[test]
fn a_device_without_a_network_namespace_is_refused() {
    case(|t| {
        t.needs_root("devices of the machine's network");
        let net = outside(t);
        let _ = net
            .run(t, json!({"dev-out": {}}), |c| no_ns(c, "network"))
            .refused();
        assert!(net.ip("-o link").contains("dev-out"));
    });
}
