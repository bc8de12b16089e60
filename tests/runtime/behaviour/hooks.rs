//! `hooks`: order, moments, namespaces, the state they get.

use runtime_suite::prelude::*;

const ALL: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Where a hook on the host writes; the one in the container's root writes to /data.
fn log(t: &Case) -> PathBuf {
    t.dir().join("hooks")
}

/// A script that appends a line `MOMENT text`, on the host or in the container.
fn note(t: &Case, moment: &str, text: &str) -> String {
    let file = match moment {
        "startContainer" => "/data/hooks".to_owned(),
        _ => log(t).display().to_string(),
    };
    format!("echo \"{moment} {text}\" >>{file}")
}

/// What the hooks on the host wrote.
fn lines(t: &Case) -> Vec<String> {
    let text = std::fs::read_to_string(log(t)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What the hook in the container wrote.
fn inner_lines(t: &Case) -> Vec<String> {
    let text = std::fs::read_to_string(t.rootfs().join("data/hooks")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn each_runs_at_its_moment() {
    case(|t| {
        let _ = t
            .create(|c| {
                // On one file system, so that all six write to one list.
                bind(c, t.dir(), t.dir().to_str().expect("UTF-8"), &[]);
                for moment in ALL {
                    hook(c, moment, &format!("echo {moment} >>{}", log(t).display()));
                }
                script(
                    c,
                    &format!("echo program >>{}; sleep 1000", log(t).display()),
                );
            })
            .ok();
        assert_eq!(lines(t), ["prestart", "createRuntime", "createContainer"]);
        let _ = t.start().ok();
        wait_until("the program has begun", || lines(t).len() == 6);
        let mut started = lines(t)[3..].to_vec();
        assert_eq!(started[0], "startContainer");
        // Whether the program writes before the hook after its start is a race between them.
        started.sort();
        assert_eq!(started, ["poststart", "program", "startContainer"]);
        t.stop();
        assert_eq!(lines(t).len(), 6);
        let _ = t.delete().ok();
        assert_eq!(lines(t)[6..], ["poststop"]);
    });
}

#[test]
fn poststart_comes_after_the_program_began() {
    case(|t| {
        // The program's name is in /proc/PID/comm once it was executed.
        let text = format!(
            "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); cat /proc/$pid/comm >>{}",
            log(t).display()
        );
        for _ in 0..5 {
            t.up(|c| hook(c, "poststart", &text));
            let _ = t.delete_force().ok();
        }
        assert_eq!(lines(t), ["sleep"; 5]);
    });
}

#[test]
fn hooks_of_one_moment_run_in_order() {
    case(|t| {
        let _ = t
            .run(|c| {
                for moment in ALL {
                    for n in 1..=3 {
                        hook(c, moment, &note(t, moment, &n.to_string()));
                    }
                }
            })
            .ok();
        let mut all = lines(t);
        all.splice(9..9, inner_lines(t));
        let want: Vec<String> = ALL
            .iter()
            .flat_map(|m| (1..=3).map(move |n| format!("{m} {n}")))
            .collect();
        assert_eq!(all, want);
    });
}

#[test]
fn run_in_the_foreground_runs_all_of_them() {
    case(|t| {
        let out = t.run(|c| {
            for moment in ALL {
                hook(c, moment, &note(t, moment, "x"));
            }
            args(c, &["/bin/false"]);
        });
        assert_eq!(out.code(), 1, "{out}");
        assert_eq!((lines(t).len(), inner_lines(t).len()), (5, 1));
    });
}

/// One state document, written to a file by hook number `n` of a moment.
fn state_of(t: &Case, moment: &str) -> Value {
    let file = match moment {
        "startContainer" => t.rootfs().join("data/startContainer"),
        _ => t.dir().join(moment),
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{moment}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{moment}: {e}: {text}"))
}

#[test]
fn the_state_is_on_standard_input() {
    case(|t| {
        t.up(|c| {
            c["annotations"] = json!({"org.example.key": "value"});
            for moment in ALL {
                let dir = t.dir().display();
                let to = match moment {
                    "startContainer" => "/data/startContainer".to_owned(),
                    _ => format!("{dir}/{moment}"),
                };
                hook(c, moment, &format!("cat >{to}"));
            }
        });
        let pid = t.pid();
        t.stop();
        let _ = t.delete().ok();
        for (moment, status) in ALL.iter().zip([
            "creating", "creating", "creating", "created", "running", "stopped",
        ]) {
            let state = state_of(t, moment);
            println!("{moment}: {state}");
            assert_eq!(state["id"], t.id(), "{moment}");
            assert_eq!(
                state["bundle"],
                t.bundle().to_str().expect("UTF-8"),
                "{moment}"
            );
            assert_eq!(state["annotations"]["org.example.key"], "value", "{moment}");
            assert!(state["ociVersion"].is_string(), "{moment}");
            assert_eq!(state["status"], status, "{moment}");
            match *moment {
                "poststop" => {}
                // "For hooks executed in the container namespace, it is the pid as seen by the
                // container." createContainer hooks run there as well.
                "startContainer" => assert_eq!(state["pid"], 1, "{moment}"),
                "createContainer" => assert!(state["pid"] == 1 || state["pid"] == pid),
                _ => assert_eq!(state["pid"], pid, "{moment}"),
            }
        }
    });
}

#[test]
fn each_runs_in_its_namespaces() {
    case(|t| {
        t.up(|c| {
            for moment in ALL {
                let probe = "$(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/net)";
                hook(c, moment, &note(t, moment, probe));
            }
        });
        let pid = t.pid().to_string();
        let of = |pid: &str| {
            format!(
                "{} {}",
                host::namespace(pid, "mnt"),
                host::namespace(pid, "net")
            )
        };
        let (inside, mut outside) = (of(&pid), of("self"));
        let _ = t.delete_force().ok();
        let all = [lines(t), inner_lines(t)].concat();
        if t.program().kind == "crun" {
            // It runs in a mount namespace that the suite made for it.
            outside = host::namespace("self", "net");
        }
        for moment in ALL {
            let line = all.iter().find(|l| l.starts_with(&format!("{moment} ")));
            let line = line.unwrap_or_else(|| panic!("{moment} did not run"));
            let want = match moment {
                "createContainer" | "startContainer" => &inside,
                _ => &outside,
            };
            assert!(line.ends_with(want.as_str()), "{line}, not {want}");
        }
    });
}

#[test]
fn create_container_runs_before_the_root_is_changed() {
    case(|t| {
        let root = t.rootfs();
        let text = format!(
            "test -d {0}/bin && grep -c ' {0}' /proc/self/mountinfo",
            root.display()
        );
        let text = format!("{text} >{}", log(t).display());
        let _ = t.run(|c| hook(c, "createContainer", &text)).ok();
        let mounts: u32 = lines(t)[0].parse().expect("a number");
        assert!(mounts >= 7, "the container's mounts are there: {mounts}");
    });
}

#[test]
fn mounts_of_a_create_container_hook_stay_in_the_container() {
    case(|t| {
        let root = t.rootfs();
        let text = format!(
            "mount -t tmpfs hook {0}/mnt && echo x >{0}/mnt/from-hook",
            root.display()
        );
        let out = t.sh("ls /mnt", |c| hook(c, "createContainer", &text));
        assert_eq!(out, "from-hook");
        assert!(!root.join("mnt/from-hook").exists());
    });
}

#[test]
fn runtime_hooks_find_the_namespaces_made() {
    case(|t| {
        t.needs_root("nsenter(1) without its user namespace");
        // What network plugins do: a device made outside is moved in.
        for moment in ["prestart", "createRuntime"] {
            let text = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); \
                nsenter -t $pid -n ip link add hook0 type bridge";
            let out = t.sh("ip -o link show hook0 | cut -d: -f2", |c| {
                hook(c, moment, text)
            });
            assert_eq!(out.trim(), "hook0", "{moment}");
        }
    });
}

#[test]
fn arguments_and_environment_are_the_hooks_own() {
    case(|t| {
        let text = "echo \"$0 $1\"; env | grep -v -e PWD -e SHLVL -e ^_=";
        let _ = t
            .run(|c| {
                c["hooks"]["prestart"] = json!([{
                    "path": "/bin/sh",
                    "args": ["other-name", "-c", format!("({text}) >{}", log(t).display()), "zero", "one"],
                    "env": ["ONE=1", "TWO=a b"]
                }]);
            })
            .ok();
        let mut all = lines(t);
        all.sort();
        assert_eq!(all, ["ONE=1", "TWO=a b", "zero one"]);
    });
}

#[test]
fn the_path_of_start_container_is_in_the_container() {
    case(|t| {
        let file = t.rootfs().join("bin/hook");
        std::fs::write(
            &file,
            "#!/bin/sh\necho inside >/data/hooks; cat >/dev/null\n",
        )
        .expect("write");
        rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o755)).expect("chmod");
        let hooks = json!({"startContainer": [{"path": "/bin/hook"}]});
        let _ = t.run(|c| c["hooks"] = hooks).ok();
        assert_eq!(inner_lines(t), ["inside"]);
    });
}
