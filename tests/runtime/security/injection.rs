//! Words of the configuration that mean more than they should (CVE-2022-0811 and its kin).

use runtime_suite::prelude::*;

fn host_value(name: &str) -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).expect("read")
}

/// Names that lead from what is allowed to what is not.
#[test]
fn names_of_parameters_do_not_climb() {
    case(|t| {
        let before = host_value("panic_on_warn");
        for name in [
            "net/../kernel/panic_on_warn",
            "net.ipv4/../../kernel/panic_on_warn",
            "net/ipv4/../../kernel/panic_on_warn",
            "net.../kernel/panic_on_warn",
            "net.ipv4.ip_forward/../../../kernel/panic_on_warn",
            "net//kernel.panic_on_warn",
            "net.ipv4.ip_forward\nkernel.panic_on_warn",
            "net.ipv4.ip_forward\0",
            "/proc/sys/kernel/panic_on_warn",
            "fs.mqueue/../../kernel/panic_on_warn",
            "kernel.shm_rmid_forced/../panic_on_warn",
            "kernel.msg../panic_on_warn",
            "",
            ".",
            "net.",
        ] {
            let out = t.create(|c| c["linux"]["sysctl"] = json!({name: before.trim()}));
            assert_ne!(out.code(), 0, "{name:?} was taken: {out}");
        }
        assert_eq!(host_value("panic_on_warn"), before);
    });
}

#[test]
fn values_of_parameters_are_one_value() {
    case(|t| {
        let before = host_value("panic_on_warn");
        for value in [
            "100+kernel.panic_on_warn=1",
            "100\nkernel.panic_on_warn=1",
            "100,kernel.panic_on_warn=1",
            "100;kernel.panic_on_warn=1",
        ] {
            let out = t.run(|c| {
                c["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": value});
                script(c, "cat /proc/sys/net/ipv4/ip_default_ttl");
            });
            // The kernel takes a number and refuses what follows it.
            assert!(out.code() != 0 || out.text() == "100", "{value:?}: {out}");
            assert_eq!(host_value("panic_on_warn"), before, "{value:?}");
        }
    });
}

/// Control: an allowed name with a good value is set.
#[test]
fn control_a_good_parameter_is_set() {
    case(|t| {
        let out = t.sh("cat /proc/sys/net/ipv4/ip_default_ttl", |c| {
            c["linux"]["sysctl"] = json!({"net.ipv4.ip_default_ttl": "100"});
        });
        assert_eq!(out, "100");
    });
}

#[test]
fn an_option_of_a_mount_is_one_option() {
    case(|t| {
        // A comma in an option would be another option to the kernel; whatever comes of it, flags
        // that the configuration sets must stand.
        let out = t.run(|c| {
            mount(
                c,
                "tmpfs",
                "tmpfs",
                "/mnt",
                &["nosuid", "nodev", "size=1m,suid,dev"],
            );
            args(c, &["/bin/probe", "report"]);
        });
        if out.code() == 0 {
            let m = Report::new(&out.stdout).mount("/mnt");
            assert!(m.has("nosuid") && m.has("nodev"), "{m:?}");
        }
    });
}

#[test]
fn a_line_of_the_log_is_one_line() {
    case(|t| {
        let name = "/bin/x\",\"level\":\"info\"}\n{\"level\":\"error\",\"msg\":\"forged\"}\n";
        t.write(|c| args(c, &[name]));
        let log = t.dir().join("log");
        let bundle = t.bundle().to_str().expect("UTF-8");
        let out = t
            .runtime(&[
                "--log",
                log.to_str().expect("UTF-8"),
                "--log-format",
                "json",
                "run",
                "--bundle",
                bundle,
                t.id(),
            ])
            .run();
        assert_ne!(out.code(), 0);
        for line in std::fs::read_to_string(&log).expect("read the log").lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_ne!(entry["msg"], "forged", "{line}");
        }
    });
}

#[test]
fn an_id_is_no_path_and_no_flag() {
    case(|t| {
        t.write(|_| {});
        let bundle = t.bundle().to_str().expect("UTF-8").to_owned();
        let mark = t.new_dir("mark");
        std::fs::write(mark.join("file"), "").expect("write");
        for id in ["../mark", "../../x", "/etc", "..", "x/../../mark"] {
            let out = t.runtime(&["create", "--bundle", &bundle, id]).run();
            assert_ne!(out.code(), 0, "{id}: {out}");
            let out = t.runtime(&["delete", "--force", id]).run();
            println!("{out}");
            assert!(
                mark.join("file").exists(),
                "{id}: deleted outside of the state root"
            );
        }
    });
}

#[test]
fn an_annotation_of_systemd_is_text_to_others() {
    case(|t| {
        t.needs(
            ground() != Ground::Systemd,
            "a runtime that does not ask systemd",
        );
        let _ = t
            .run(|c| {
                c["annotations"] = json!({
                    "org.systemd.property.ExecStopPost": "[('/bin/sh', ['sh', '-c', 'true'], false)]",
                    "org.criu.config": "/etc/passwd",
                    "run.oci.hooks.stdout": t.dir().join("stdout").to_str().expect("UTF-8")
                });
            })
            .ok();
    });
}

#[test]
fn an_argument_of_a_hook_is_no_shells() {
    case(|t| {
        let mark = t.dir().join("injected");
        let text = format!("$(touch {0}); `touch {0}`; touch {0} &", mark.display());
        let hooks = json!({"prestart": [{"path": "/bin/true", "args": ["true", text]}]});
        let _ = t.run(|c| c["hooks"] = hooks);
        assert!(!mark.exists());
    });
}
