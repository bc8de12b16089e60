//! CNI: Debian's plugins, and plugins that mean no good.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{HOST4, Lab, WORLD4, call, call_here, eventually, ip, lab, run, serve};
use net::{Attachment, Backend, Bandwidth, Config, Dns, ErrorKind, Network, PodName, netns};

impl Lab {
    fn conf(&self, file: &str, value: &Value) {
        let dir = self.dir.join("cni/net.d");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    }

    /// A plugin that is a shell script. `$LOG` is a file for it to write to.
    fn plugin(&self, name: &str, script: &str) {
        let dir = self.dir.join("cni/bin");
        std::fs::create_dir_all(&dir).unwrap();
        let log = self.log();
        let text = format!("#!/bin/sh\nLOG={}\n{script}\n", log.display());
        // Written and closed by another process: a fork of another test's thread at this moment
        // would keep it open for writing, and execve would say ETXTBSY.
        let path = dir.join(name);
        std::fs::write(dir.join(".text"), text).unwrap();
        run(&format!(
            "install -m 755 {0}/.text {1}",
            dir.display(),
            path.display()
        ));
    }

    fn log(&self) -> PathBuf {
        self.dir.join("cni/log")
    }

    /// What the recording plugins were asked, in order.
    fn recorded(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let _ = std::fs::remove_file(self.log());
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Answers every command well and writes down what it was asked.
const RECORDER: &str = r#"
input=$(cat | tr -d '\n')
printf '{"me":"%s","command":"%s","id":"%s","netns":"%s","ifname":"%s","args":"%s","input":%s}\n' \
    "$(basename "$0")" "$CNI_COMMAND" "$CNI_CONTAINERID" "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" \
    "$input" >>"$LOG"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}' ;;
ADD) printf '{"cniVersion":"1.1.0","interfaces":[{"name":"br9"},{"name":"%s","mac":"0a:00:00:00:00:07","mtu":1300,"sandbox":"%s"}],"ips":[{"address":"10.9.0.1/24","interface":0},{"address":"10.9.0.7/24","gateway":"10.9.0.1","interface":1}],"dns":{"nameservers":["10.9.0.53"]},"by":"%s"}' \
    "$CNI_IFNAME" "$CNI_NETNS" "$(basename "$0")" ;;
esac
"#;

#[test]
fn debians_plugins_make_a_network() {
    lab("debian", |lab| {
        let data = lab.dir.join("leases");
        lab.conf(
            "10-test.conflist",
            &json!({
                "cniVersion": "1.1.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "test",
                "plugins": [
                    {
                        "type": "bridge", "bridge": "cnitest0", "isGateway": true, "ipMasq": true,
                        "hairpinMode": true,
                        "ipam": {
                            "type": "host-local", "dataDir": data,
                            "ranges": [[{"subnet": "10.87.0.0/24"}]],
                            "routes": [{"dst": "0.0.0.0/0"}],
                        },
                    },
                    {"type": "portmap", "capabilities": {"portMappings": true}},
                    {"type": "bandwidth", "capabilities": {"bandwidth": true}},
                ],
            }),
        );
        let network = lab.network();
        let status = network.status();
        assert!(
            status.ready && status.message.contains("CNI network test"),
            "{status:?}"
        );
        let a = lab.pod_with(&network, "a", |a| {
            a.ports = vec!["8080:80".parse().unwrap()];
            a.bandwidth.ingress = Some(100_000_000);
        });
        let b = lab.pod_with(&network, "b", |b| b.bandwidth.ingress = Some(100_000_000));
        assert_eq!((a.ip4(), b.ip4()), (ip("10.87.0.2"), ip("10.87.0.3")));
        assert_eq!(a.setup.gateways, [ip("10.87.0.1")]);
        serve(&a.netns, 80);
        serve(&lab.world, 80);
        assert_eq!(call(&b.netns, (a.ip4(), 80)), Some(b.ip4()));
        assert_eq!(call(&b.netns, (ip(WORLD4), 80)), Some(ip(HOST4)));
        assert_eq!(call(&lab.world, (ip(HOST4), 8080)), Some(ip(WORLD4)));
        assert!(call_here((ip("127.0.0.1"), 8080)).is_some());
        assert_eq!(
            a.run("ip -br link show lo | tr -s ' ' | cut -d' ' -f2"),
            "UNKNOWN\n"
        );
        // (CHECK of this version of portmap finds fault with every pod that has ports and no IPv6;
        // that of bandwidth crashes for one without limits.)
        network.check("b").unwrap();
        assert_eq!(network.setup(&a.attachment).unwrap(), a.setup);
        let leases = || {
            run(&format!(
                "cd {}/test && ls | grep '^10' || true",
                data.display()
            ))
        };
        assert_eq!(leases(), "10.87.0.2\n10.87.0.3\n");
        network.teardown("a").unwrap();
        let veth = a.setup.host_interface.as_deref().unwrap();
        assert!(veth.starts_with("veth") && !run("ip -br link").contains(veth));
        // The other by the collector, without its namespace.
        netns::remove(&lab.config().netns_dir, "b").unwrap();
        let (collected, errors) = network.gc(|_| false);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!((collected, leases()), (vec!["b".to_owned()], String::new()));
        assert!(!run("nft list ruleset").contains("8080"));
    });
}

#[test]
fn plugins_are_asked_as_the_specification_says() {
    lab("asked", |lab| {
        for name in ["first", "second"] {
            lab.plugin(name, RECORDER);
        }
        lists_of_recorders(lab);
        let mut config = lab.config();
        config.cni.ip_ranges = vec!["10.9.0.0/24".parse().unwrap()];
        let network = Network::open(config, &lab.state()).unwrap();
        assert!(network.status().ready);
        let commands = |list: &[Value]| {
            let pairs = list.iter().map(|v| format!("{}:{}", v["me"], v["command"]));
            pairs.collect::<Vec<_>>().join(" ").replace('"', "")
        };
        assert_eq!(commands(&lab.recorded()), "first:STATUS second:STATUS");
        let a = lab.pod_with(&network, "a", everything);
        is_understood(&a.setup);
        let asked = lab.recorded();
        assert_eq!(commands(&asked), "first:ADD second:ADD");
        assert_eq!(
            asked[0]["args"],
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=space;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=u-1"
        );
        assert_eq!(asked[0]["netns"], json!(a.path));
        assert_eq!(
            (&asked[0]["id"], &asked[0]["ifname"]),
            (&json!("a"), &json!("eth0"))
        );
        assert_eq!(asked[0]["input"], first_input());
        let second = &asked[1]["input"];
        assert_eq!(second["prevResult"]["by"], "first");
        assert!(second.get("runtimeConfig").is_none() && second["name"] == "test");
        network.check("a").unwrap();
        let asked = lab.recorded();
        assert_eq!(commands(&asked), "first:CHECK second:CHECK");
        assert_eq!(asked[0]["input"]["prevResult"]["by"], "second");
        let (collected, errors) = network.gc(|_| true);
        assert!(collected.is_empty() && errors.is_empty(), "{errors:?}");
        let asked = lab.recorded();
        assert_eq!(commands(&asked), "first:GC second:GC");
        let valid = json!([{"containerID": "a", "ifname": "eth0"}]);
        assert_eq!(asked[1]["input"]["cni.dev/valid-attachments"], valid);
        netns::remove(&lab.config().netns_dir, "a").unwrap();
        // The configuration may have changed since: what made it unmakes it.
        lab.conf(
            "10-test.conflist",
            &json!({"cniVersion": "1.0.0", "name": "new", "plugins": [{"type": "first"}]}),
        );
        network.teardown("a").unwrap();
        let asked = lab.recorded();
        assert_eq!(commands(&asked), "second:DEL first:DEL");
        assert_eq!(
            (&asked[0]["netns"], &asked[0]["input"]["name"]),
            (&json!(""), &json!("test"))
        );
        assert_eq!(asked[1]["input"]["prevResult"]["by"], "second");
    });
}

fn lists_of_recorders(lab: &Lab) {
    let every = json!({
        "portMappings": true, "bandwidth": true, "dns": true, "ips": true, "mac": true,
        "cgroupPath": true, "ipRanges": true, "infinibandGUID": true,
    });
    lab.conf(
        "10-test.conflist",
        &json!({"cniVersion": "1.1.0", "name": "test", "plugins": [
            {"type": "first", "own": 7, "capabilities": every},
        ]}),
    );
    lab.conf(
        "test/20-second.conf",
        &json!({"type": "second", "capabilities": {"dns": false}}),
    );
}

fn is_understood(setup: &net::Setup) {
    assert_eq!(setup.ips, ["10.9.0.7/24".parse().unwrap()]);
    assert_eq!(setup.gateways, [ip("10.9.0.1")]);
    assert_eq!(setup.mac.unwrap().to_string(), "0a:00:00:00:00:07");
    assert_eq!(
        (setup.mtu, setup.host_interface.as_deref()),
        (Some(1300), Some("br9"))
    );
    assert_eq!(setup.dns.servers, ["10.9.0.53"]);
}

fn everything(a: &mut Attachment) {
    a.ports = vec!["127.0.0.1:8080-8081:80-81/udp".parse().unwrap()];
    a.bandwidth = Bandwidth {
        ingress: Some(1_000_000),
        egress: None,
    };
    a.dns = Dns {
        servers: vec!["1.2.3.4".into()],
        ..Dns::default()
    };
    a.ips = vec![ip("10.9.0.7")];
    a.mac = "0a:00:00:00:00:07".parse().ok();
    a.cgroup = Some("/pods/a".into());
    a.pod = PodName {
        namespace: "space".into(),
        name: "pod".into(),
        uid: "u-1".into(),
    };
}

fn first_input() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "test", "type": "first", "own": 7,
        "runtimeConfig": {
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "127.0.0.1"},
                {"hostPort": 8081, "containerPort": 81, "protocol": "udp", "hostIP": "127.0.0.1"},
            ],
            "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 2_147_483_647},
            "dns": {"servers": ["1.2.3.4"], "searches": [], "options": []},
            "ips": ["10.9.0.7"],
            "mac": "0a:00:00:00:00:07",
            "cgroupPath": "/pods/a",
            "ipRanges": [[{"subnet": "10.9.0.0/24"}]],
        },
    })
}

/// One plugin in a network; what setting a pod up with it says.
fn refusal(lab: &Lab, network: &Network, script: &str) -> (ErrorKind, String) {
    lab.plugin("bad", script);
    let path = network.create_netns("a").unwrap();
    let error = network.setup(&Attachment::new("a", path)).unwrap_err();
    network.teardown("a").unwrap();
    let text = error.to_string();
    assert!(
        !text.contains(char::is_control) && text.len() < 3000,
        "{text:?}"
    );
    (error.kind(), text)
}

#[test]
fn hostile_plugins_are_refused_in_one_line() {
    lab("hostile", |lab| {
        lab.conf(
            "10-bad.conf",
            &json!({"cniVersion": "1.0.0", "name": "bad", "type": "bad"}),
        );
        let mut config = lab.config();
        config.cni.timeout_seconds = 1;
        let network = Network::open(config, &lab.state()).unwrap();
        let on_add = |script: &str| format!("[ $CNI_COMMAND = ADD ] || exit 0; {script}");
        for (script, words) in [
            (
                "sleep 1000 & echo $! >\"$LOG\"; wait",
                "no answer after 1 seconds",
            ),
            ("exec yes", "more than 1048576 bytes of output"),
            ("echo '{\"ips'", "the result of CNI plugin bad"),
            (
                "printf '\\033[2J\\000garbage'",
                "the result of CNI plugin bad",
            ),
            ("true", "the result of CNI plugin bad"),
            ("echo no >&2; exit 3", "exit code 3: \\\"no\\\""),
            ("kill -9 $$", "killed by signal 9"),
            (
                "echo '{\"ips\":[{\"address\":\"x\"}]}'",
                "address \\\"x\\\" in its result",
            ),
            ("yes >&2 & exit 4", "exit code 4"),
        ] {
            let (_, text) = refusal(lab, &network, &on_add(script));
            assert!(
                text.contains(&words.replace("\\\"", "\"")),
                "{script}: {text}"
            );
            // Its children die with it.
            let pid = std::fs::read_to_string(lab.log()).unwrap_or_default();
            let _ = std::fs::remove_file(lab.log());
            if let Ok(pid) = pid.trim().parse::<u32>() {
                let stat = format!("/proc/{pid}/stat");
                let state = || std::fs::read_to_string(&stat).unwrap_or_default();
                eventually("it ends", || state().is_empty() || state().contains(") Z "));
            }
        }
        let busy = on_add(
            "echo '{\"code\":11,\"msg\":\"later\",\"details\":\"much\\u000alater\"}'; exit 1",
        );
        let (kind, text) = refusal(lab, &network, &busy);
        assert_eq!(kind, ErrorKind::TryAgain);
        assert!(text.contains("later (much later) (code 11)"), "{text}");
        // What stays behind and holds its output open does not hold us.
        lab.plugin("bad", "[ $CNI_COMMAND = ADD ] || exit 0\nsleep 1000 & echo $! >\"$LOG\"\necho '{\"ips\":[{\"address\":\"10.9.0.7/24\"}]}'");
        let a = lab.pod(&network, "a");
        assert_eq!(a.ip4(), ip("10.9.0.7"));
        run(&format!("kill $(cat {})", lab.log().display()));
        network.teardown("a").unwrap();
    });
}

/// The kernel cannot tell that a process ended (before Linux 5.3).
#[test]
fn hostile_plugins_are_refused_without_pidfds() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cni::hostile_plugins_are_refused_in_one_line"])
        .env(sys::knob::FAKE_ENOSYS, "pidfd_open")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[test]
fn a_plugin_that_does_not_let_go_blocks_nothing() {
    lab("del", |lab| {
        for name in ["first", "second"] {
            lab.plugin(name, RECORDER);
        }
        let list = json!({"cniVersion": "0.4.0", "name": "test", "plugins": [{"type": "first"}, {"type": "second"}]});
        lab.conf("10-test.conflist", &list);
        let network = lab.network();
        lab.pod(&network, "a");
        lab.recorded();
        let broken = format!("if [ $CNI_COMMAND = DEL ]; then exit 1; fi\n{RECORDER}");
        lab.plugin("second", &broken);
        let text = network.teardown("a").unwrap_err().to_string();
        assert!(
            text.contains("CNI DEL in network test") && text.contains("second"),
            "{text}"
        );
        let asked = lab.recorded();
        assert_eq!((asked.len(), &asked[0]["me"]), (1, &json!("first")));
        assert!(netns::list(&lab.config().netns_dir).unwrap().is_empty());
        // It is tried again by and by, after a reboot too.
        let record = lab.dir.join("cni/cache/a");
        let text = std::fs::read_to_string(&record).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(&record, text.replace(boot.trim(), "another")).unwrap();
        std::fs::remove_dir_all(lab.state()).unwrap();
        let network = lab.network();
        let (collected, errors) = network.gc(|_| false);
        assert_eq!((collected.len(), errors.len()), (0, 1), "{errors:?}");
        lab.plugin("second", RECORDER);
        lab.recorded();
        let (collected, errors) = network.gc(|_| false);
        assert_eq!((collected.len(), errors.len()), (1, 0), "{errors:?}");
        assert_eq!(lab.recorded()[0]["netns"], "");
        assert!(!record.exists());
    });
}

/// The path by way of a process may lead to another namespace when the process is gone.
#[test]
fn a_plugin_is_never_sent_into_another_namespace() {
    lab("stranger", |lab| {
        lab.plugin("first", RECORDER);
        let list = json!({"cniVersion": "1.0.0", "name": "test", "type": "first"});
        lab.conf("10-test.conf", &list);
        let network = lab.network();
        let link = lab.dir.join("netns-of-a-process");
        let point_to = |path: &std::path::Path| {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(path, &link).unwrap();
        };
        let (one, other) = (network.create_netns("one"), network.create_netns("other"));
        point_to(&one.unwrap());
        let attachment = Attachment::new("a", &link);
        network.setup(&attachment).unwrap();
        network.setup(&attachment).unwrap();
        assert_eq!(lab.recorded().len(), 1, "the same request again");
        point_to(&other.unwrap());
        network.teardown("a").unwrap();
        let asked = lab.recorded();
        assert_eq!((asked.len(), &asked[0]["netns"]), (1, &json!("")));
    });
}

#[test]
fn the_configuration_in_force_is_the_first_that_can_be_read() {
    lab("conf", |lab| {
        lab.plugin("good", RECORDER);
        let message = || {
            let status = lab.network().status();
            (status.ready, status.message)
        };
        assert!(message().1.contains("built-in"), "{:?}", message());
        let plugin = |kind: &str| json!({"cniVersion": "1.0.0", "name": "n", "type": kind});
        for (value, words) in [
            (plugin("../../../bin/sh"), "is a path"),
            (plugin("/bin/sh"), "is a path"),
            (plugin(".."), "is a path"),
            (
                json!({"name": "n", "type": "good", "ipam": {"type": "a/b"}}),
                "is a path",
            ),
            (
                json!({"name": "../n", "type": "good"}),
                "is not a network's",
            ),
            (json!({"name": "n", "plugins": []}), "no plugins"),
            (
                json!({"name": "n", "plugins": [1]}),
                "a plugin is no object",
            ),
            (
                json!({"cniVersion": "9.0.0", "name": "n", "type": "good"}),
                "no version",
            ),
            (json!([]), "no object"),
        ] {
            lab.conf("20-n.conflist", &value);
            let (ready, text) = message();
            assert!(!ready && text.contains(words), "{value}: {text}");
        }
        lab.conf("30-n.conf", &plugin("absent"));
        let (ready, text) = message();
        assert!(!ready && text.contains("absent is not in"), "{text}");
        lab.conf("25-good.conf", &plugin("good"));
        assert_eq!(message(), (true, "CNI network n".into()));
        // Debian's podman leaves this one.
        std::fs::remove_dir_all(lab.dir.join("cni/net.d")).unwrap();
        lab.conf(
            "87-podman-bridge.conflist",
            &json!({"cniVersion": "0.4.0", "name": "podman", "plugins": [{"type": "good"}]}),
        );
        assert!(message().1.contains("built-in"), "{:?}", message());
        let with = |backend| {
            let config = Config {
                backend,
                ..lab.config()
            };
            Network::open(config, &lab.state()).unwrap().status()
        };
        assert!(with(Backend::Cni).message.contains("CNI network podman"));
        lab.conf("10-good.conf", &plugin("good"));
        assert!(with(Backend::Builtin).message.contains("built-in"));
        let large = lab.dir.join("cni/net.d/00-large.conf");
        std::fs::write(large, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(with(Backend::Cni).ready);
    });
}
