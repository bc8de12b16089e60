//! `linux.sysctl`: what belongs to a namespace of the container is set, all else is refused.

use runtime_suite::prelude::*;

fn with(c: &mut Value, key: &str, value: &str) {
    if c["linux"]["sysctl"].is_null() {
        c["linux"]["sysctl"] = json!({});
    }
    c["linux"]["sysctl"][key] = json!(value);
}

/// The value asked for is the host's own, so that a runtime that sets it does no harm.
fn refused(t: &Case, key: &str, change: impl Fn(&mut Value)) {
    let file = Path::new("/proc/sys").join(key.replace('.', "/"));
    let value = std::fs::read_to_string(file).unwrap_or_else(|_| "1".to_owned());
    let out = t.create(|c| {
        with(c, key, value.trim());
        change(c);
    });
    let message = out.refused();
    let named = message.contains(key) || message.contains(&key.replace('.', "/"));
    assert!(named, "{key}: {message}");
}

#[test]
fn those_of_the_network_namespace() {
    case(|t| {
        t.needs_root("net.core, which a user's network namespaces do not have (Linux 6.1)");
        let out = t.sh(
            "cd /proc/sys/net; cat ipv4/ip_forward core/somaxconn ipv4/ip_local_port_range",
            |c| {
                with(c, "net.ipv4.ip_forward", "1");
                with(c, "net.core.somaxconn", "256");
                with(c, "net.ipv4.ip_local_port_range", "2000 3000");
            },
        );
        assert_eq!(out, "1\n256\n2000\t3000");
    });
}

#[test]
fn those_of_the_ipc_namespace() {
    case(|t| {
        let out = t.sh(
            "cd /proc/sys; cat kernel/msgmax kernel/msgmnb kernel/msgmni kernel/shmmax \
             kernel/shmall kernel/shmmni kernel/shm_rmid_forced kernel/sem fs/mqueue/msg_max",
            |c| {
                for (key, value) in [
                    ("kernel.msgmax", "8000"),
                    ("kernel.msgmnb", "9000"),
                    ("kernel.msgmni", "100"),
                    ("kernel.shmmax", "1000000"),
                    ("kernel.shmall", "20000"),
                    ("kernel.shmmni", "200"),
                    ("kernel.shm_rmid_forced", "1"),
                    ("kernel.sem", "100 2000 30 40"),
                    ("fs.mqueue.msg_max", "7"),
                ] {
                    with(c, key, value);
                }
            },
        );
        let want = "8000\n9000\n100\n1000000\n20000\n200\n1\n100\t2000\t30\t40\n7";
        assert_eq!(out, want);
    });
}

#[test]
fn the_domain_name_of_the_uts_namespace() {
    case(|t| {
        t.needs_root("kernel.domainname, which is not for users");
        let out = t.sh("cat /proc/sys/kernel/domainname", |c| {
            with(c, "kernel.domainname", "nis.example");
        });
        assert_eq!(out, "nis.example");
    });
}

#[test]
fn slashes_are_dots() {
    case(|t| {
        let out = t.sh("cat /proc/sys/net/ipv4/ip_forward", |c| {
            with(c, "net/ipv4/ip_forward", "1")
        });
        assert_eq!(out, "1");
        // With slashes between the parts, a dot is part of a name: a VLAN device's, say.
        let out = t.sh("cat /proc/sys/net/ipv4/conf/lo/forwarding", |c| {
            with(c, "net/ipv4/conf/lo/forwarding", "1");
        });
        assert_eq!(out, "1");
    });
}

#[test]
fn those_of_the_host_are_refused() {
    case(|t| {
        for key in [
            "kernel.panic",
            "vm.swappiness",
            "fs.file-max",
            "kernel.core_pattern",
            "kernel.shmfoo",
            // In a user namespace of its own it is the container's.
            "user.max_user_namespaces",
        ] {
            if key.starts_with("user.") && ground() == Ground::Rootless {
                continue;
            }
            refused(t, key, |_| {});
        }
    });
}

#[test]
fn those_of_a_namespace_of_the_host_are_refused() {
    case(|t| {
        refused(t, "net.ipv4.ip_forward", |c| no_ns(c, "network"));
        refused(t, "kernel.msgmax", |c| no_ns(c, "ipc"));
        refused(t, "fs.mqueue.msg_max", |c| no_ns(c, "ipc"));
        refused(t, "kernel.domainname", |c| {
            no_ns(c, "uts");
            c.as_object_mut()
                .expect("a configuration")
                .remove("hostname");
        });
    });
}

#[test]
fn the_network_namespace_of_the_host_by_path_is_refused() {
    case(|t| {
        refused(t, "net.ipv4.ip_forward", |c| {
            join(c, "network", format!("/proc/{}/ns/net", std::process::id()));
        });
    });
}

#[test]
fn a_joined_network_namespace_is_the_containers() {
    case(|t| {
        t.needs_root("net.core, which a user's network namespaces do not have (Linux 6.1)");
        let holder = t.container("holder");
        holder.up(|_| {});
        let path = format!("/proc/{}/ns/net", holder.pid());
        let out = t.sh("cat /proc/sys/net/core/somaxconn", |c| {
            join(c, "network", &path);
            with(c, "net.core.somaxconn", "99");
        });
        assert_eq!(out, "99");
    });
}

#[test]
fn one_that_does_not_exist_is_refused() {
    case(|t| {
        let message = t
            .create(|c| with(c, "net.ipv4.no_such_thing", "1"))
            .refused();
        assert!(message.contains("no_such_thing"), "{message}");
    });
}

#[test]
fn a_value_that_the_kernel_refuses_is_an_error() {
    case(|t| {
        let message = t
            .create(|c| with(c, "net.core.somaxconn", "many"))
            .refused();
        assert!(message.contains("somaxconn"), "{message}");
    });
}

#[test]
fn it_works_without_proc_in_the_container() {
    case(|t| {
        let out = t.run(|c| {
            with(c, "net.ipv4.ip_forward", "1");
            no_mount(c, "/proc");
            no_mount(c, "/sys/fs/cgroup");
            c["linux"]["maskedPaths"] = json!([]);
            c["linux"]["readonlyPaths"] = json!([]);
        });
        let _ = out.ok();
    });
}

#[test]
fn the_host_is_untouched() {
    case(|t| {
        t.needs_root("net.core, which a user's network namespaces do not have (Linux 6.1)");
        let read = || std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("read");
        let before = read();
        let _ = t.run(|c| with(c, "net.core.somaxconn", "77")).ok();
        assert_eq!(read(), before);
    });
}
