//! The bridge that is built in.

use std::os::fd::AsFd as _;

use crate::lab::{
    HOST4, Pod, SOON, WORLD4, WORLD6, call, call_here, call_on_link, eventually, ip, lab, picture,
    run, serve,
};
use net::{Attachment, Bandwidth, Config, ErrorKind, Network, PortMapping, Protocol, netns};

#[test]
fn pods_reach_each_other_the_machine_and_the_world() {
    lab("reach", |lab| {
        let network = lab.network();
        let (a, b) = (lab.pod(&network, "a"), lab.pod(&network, "b"));
        assert_eq!(a.ip4(), ip("10.86.0.2"));
        assert_eq!(a.ip6(), ip("fd68:756c:6c00::2"));
        for pod in [&a, &b] {
            serve(&pod.netns, 80);
        }
        serve(&lab.world, 80);
        assert_eq!(call(&a.netns, (b.ip4(), 80)), Some(a.ip4()));
        assert_eq!(call(&a.netns, (b.ip6(), 80)), Some(a.ip6()));
        assert_eq!(call_here((b.ip4(), 80)), Some(ip("10.86.0.1")));
        // The world knows the machine, and no pod.
        assert_eq!(call(&a.netns, (ip(WORLD4), 80)), Some(ip(HOST4)));
        assert_eq!(call(&a.netns, (ip(WORLD6), 80)), Some(ip("2001:db8::2")));
        // By link-local addresses too, which no router knows.
        let local = |pod: &Pod| {
            let text = pod.run("ip -6 -br addr show dev eth0 scope link");
            let mut words = text.split_whitespace().map(|word| word.split('/').next());
            ip(words.nth(2).flatten().unwrap())
        };
        let to = (local(&b), 80);
        assert_eq!(call_on_link(&a.netns, to), Some(local(&a)));
        assert_eq!(a.setup.mtu, Some(1400), "as the default route's link");
        network.check("a").unwrap();
        network.check("b").unwrap();
    });
}

#[test]
fn teardown_leaves_nothing() {
    lab("nothing", |lab| {
        let network = lab.network();
        assert!(network.status().ready, "{:?}", network.status());
        let before = picture();
        for id in ["a", "b"] {
            lab.pod_with(&network, id, |a| {
                let port = if a.id == "a" { 8080 } else { 8081 };
                a.ports = vec![PortMapping::new(Protocol::Tcp, port, 80)];
            });
        }
        assert_ne!(picture(), before);
        for id in ["a", "b", "a", "never-there"] {
            network.teardown(id).unwrap();
        }
        assert_eq!(picture(), before);
        assert_eq!(network.addresses_held().unwrap(), 0);
        let left = run(&format!(
            "cd {} && find . -mindepth 2 ! -name last4 ! -name last6",
            lab.dir.display()
        ));
        let dirs = ["addresses", "attachments", "cache", "locks", "netns"];
        let left: Vec<&str> = left
            .lines()
            .filter(|l| !dirs.iter().any(|d| l.ends_with(&format!("/{d}"))))
            .collect();
        assert_eq!(left, ["./state/lock", "./state/network"]);
        network.destroy().unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn the_same_request_again_gets_the_same_answer() {
    lab("again", |lab| {
        let network = lab.network();
        let a = lab.pod(&network, "a");
        assert_eq!(network.setup(&a.attachment).unwrap(), a.setup);
        // Another process that shares the state.
        assert_eq!(lab.network().setup(&a.attachment).unwrap(), a.setup);
        assert_eq!(network.addresses_held().unwrap(), 2);
        // What is not as it was made is made anew.
        a.run("ip link set eth0 down");
        a.run("ip addr flush dev eth0");
        let text = network.check("a").unwrap_err();
        assert_eq!(text.kind(), ErrorKind::Drift, "{text}");
        network.setup(&a.attachment).unwrap();
        network.check("a").unwrap();
        assert_eq!(network.addresses_held().unwrap(), 2);
    });
}

#[test]
fn addresses_are_given_in_turn_and_run_out() {
    lab("pool", |lab| {
        let config = Config {
            subnet4: "10.86.0.0/29".parse().ok(),
            subnet6: None,
            ..lab.config()
        };
        let network = Network::open(config, &lab.state()).unwrap();
        let ips: Vec<_> = (0..5)
            .map(|n| lab.pod(&network, &format!("p{n}")).ip4().to_string())
            .collect();
        assert_eq!(
            ips,
            (2..7).map(|n| format!("10.86.0.{n}")).collect::<Vec<_>>()
        );
        let path = network.create_netns("p5").unwrap();
        let error = network.setup(&Attachment::new("p5", &path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.to_string().contains("10.86.0.0/29"), "{error}");
        network.teardown("p1").unwrap();
        network.teardown("p0").unwrap();
        // Not the one that was let go of last, but the next in turn.
        assert_eq!(lab.pod(&network, "p6").ip4(), ip("10.86.0.2"));
        assert_eq!(lab.pod(&network, "p7").ip4(), ip("10.86.0.3"));
        network.teardown("p7").unwrap();
        let wish = |ip: &str| {
            let mut attachment = Attachment::new("p5", &path);
            attachment.ips = vec![ip.parse().unwrap()];
            network.setup(&attachment).map(|setup| setup.ip())
        };
        for (ip, words) in [
            ("10.86.0.2", "taken"),
            ("10.86.0.1", "not a pod's"),
            ("10.9.9.9", "not a pod's"),
        ] {
            let text = wish(ip).unwrap_err().to_string();
            assert!(text.contains(words), "{ip}: {text}");
        }
        assert_eq!(wish("10.86.0.3").unwrap(), Some(ip("10.86.0.3")));
        assert_eq!(network.addresses_held().unwrap(), 5);
    });
}

#[test]
fn who_leaves_is_closed_at_once_and_gone_with_its_namespace() {
    lab("leave", |lab| {
        let config = Config {
            subnet4: "10.86.0.0/30".parse().ok(),
            subnet6: None,
            ..lab.config()
        };
        let network = Network::open(config, &lab.state()).unwrap();
        assert!(network.status().ready, "{:?}", network.status());
        let before = picture();
        let a = lab.pod_with(&network, "a", |a| {
            a.ports = vec![PortMapping::new(Protocol::Tcp, 8080, 80)];
        });
        let rules = || run("nft -s list ruleset").contains("8080");
        assert!(rules());
        assert!(!network.leave("never-there").unwrap());
        for _ in 0..2 {
            assert!(network.leave("a").unwrap());
        }
        assert!(!rules());
        assert!(network.has_link("a").unwrap());
        // It is not missed, and not put back.
        assert_eq!(network.repair().unwrap(), [""; 0]);
        assert!(!rules());
        assert_eq!(network.check("a").unwrap_err().kind(), ErrorKind::Drift);
        // The only address there is: who needs it has it at once.
        let b = lab.pod(&network, "b");
        assert_eq!((b.ip4(), network.has_link("a").unwrap()), (a.ip4(), false));
        network.leave("b").unwrap();
        drop(b);
        netns::remove(&network.config().netns_dir, "b").unwrap();
        eventually("its link goes with its namespace", || {
            !network.has_link("b").unwrap()
        });
        assert_eq!(network.addresses_held().unwrap(), 1);
        network.teardown("b").unwrap();
        network.teardown("a").unwrap();
        assert_eq!(network.addresses_held().unwrap(), 0);
        assert_eq!(picture(), before);
    });
}

#[test]
fn what_does_not_live_is_collected() {
    lab("gc", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let before = picture();
        let mut config = lab.config();
        config.owner = "someone".into();
        let other = Network::open(config, &lab.state()).unwrap();
        for id in ["dead", "live"] {
            lab.pod(&network, id);
        }
        lab.pod(&other, "foreign");
        // A crash between the namespace and the rest, and one after a lost record.
        network.create_netns("bare").unwrap();
        lab.pod(&network, "lost");
        std::fs::remove_file(lab.state().join("attachments/lost")).unwrap();
        // An address of another boot is no one's.
        let old = lab.state().join("addresses/10.86.0.9");
        std::os::unix::fs::symlink("another-boot/test/old", old).unwrap();
        let (collected, errors) = network.gc(|id| id == "live");
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(collected, ["bare", "dead", "lost", "old"]);
        assert_eq!(network.addresses_held().unwrap(), 4);
        network.check("live").unwrap();
        other.check("foreign").unwrap();
        for network in [&network, &other] {
            let (_, errors) = network.gc(|_| false);
            assert!(errors.is_empty(), "{errors:?}");
        }
        assert_eq!(picture(), before);
        assert_eq!(network.addresses_held().unwrap(), 0);
        assert!(netns::list(&lab.config().netns_dir).unwrap().is_empty());
    });
}

#[test]
fn a_reboot_frees_everything() {
    lab("reboot", |lab| {
        let network = lab.network();
        let a = lab.pod(&network, "a");
        let record = lab.state().join("attachments/a");
        let text = std::fs::read_to_string(&record).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let aged = text.replace(boot.trim(), "another-boot");
        assert_ne!(aged, text);
        std::fs::write(&record, aged).unwrap();
        for ip in &a.setup.ips {
            let path = lab.state().join("addresses").join(ip.addr().to_string());
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("another-boot/test/a", &path).unwrap();
        }
        let text = network.check("a").unwrap_err().to_string();
        assert!(text.contains("reboot"), "{text}");
        assert_eq!(network.repair().unwrap(), ["4 elements were not ours"]);
        // Its addresses are free for others.
        std::fs::remove_file(lab.state().join("last4")).unwrap();
        a.run("ip link del eth0");
        assert_eq!(lab.pod(&network, "b").ip4(), a.ip4());
        network.teardown("b").unwrap();
        let (collected, errors) = network.gc(|_| false);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(collected, ["a"]);
        assert_eq!(network.addresses_held().unwrap(), 0);
    });
}

#[test]
fn a_record_that_cannot_be_read_stops_nothing() {
    lab("torn", |lab| {
        let network = lab.network();
        let a = lab.pod(&network, "a");
        for text in ["", "{\"owner\":"] {
            std::fs::write(lab.state().join("attachments/a"), text).unwrap();
            std::fs::write(lab.state().join("attachments/b"), text).unwrap();
            let network = lab.network();
            network.repair().unwrap();
            assert!(network.status().ready);
            network.setup(&a.attachment).unwrap();
            network.check("a").unwrap();
            assert_eq!(network.addresses_held().unwrap(), 2);
            let (_, errors) = network.gc(|id| id == "a");
            // It is said once, and it is gone.
            assert!(
                errors[0].to_string().contains("attachments/b"),
                "{errors:?}"
            );
            assert!(network.gc(|id| id == "a").1.is_empty());
        }
    });
}

#[test]
fn a_pod_whose_namespace_is_gone_is_detached() {
    lab("gone", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let before = picture();
        drop(lab.pod(&network, "a"));
        netns::remove(&lab.config().netns_dir, "a").unwrap();
        run("nft delete table inet hull-hulltest0");
        network.teardown("a").unwrap();
        assert_eq!(network.addresses_held().unwrap(), 0);
        assert!(network.repair().is_ok());
        assert_eq!(picture(), before);
    });
}

#[test]
fn what_cannot_be_attached_leaves_nothing() {
    lab("refused", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let before = picture();
        let path = network.create_netns("a").unwrap();
        let attach = |change: fn(&mut Attachment)| {
            let mut attachment = Attachment::new("a", &path);
            change(&mut attachment);
            network.setup(&attachment).unwrap_err().to_string()
        };
        let text = attach(|a| a.netns = "/nowhere".into());
        assert!(text.contains("/nowhere"), "{text}");
        let text = attach(|a| a.netns = "/proc/self/ns/uts".into());
        assert!(text.contains("invalid argument"), "{text}");
        let text = attach(|a| a.interface = "lo".into());
        assert!(text.contains("lo is taken"), "{text}");
        let text = attach(|a| a.id = "../a".into());
        assert!(text.contains("id"), "{text}");
        let text = attach(|a| a.mac = "01:00:00:00:00:01".parse().ok());
        assert!(text.contains("group"), "{text}");
        assert_eq!(picture(), before);
        assert_eq!(network.addresses_held().unwrap(), 0);
        run("ip route add 10.86.7.0/24 dev up0");
        network.destroy().unwrap();
        let status = network.status();
        assert!(
            !status.ready && status.message.contains("overlaps"),
            "{status:?}"
        );
    });
}

#[test]
fn a_port_inside_is_dialled_and_traffic_is_counted() {
    lab("dial", |lab| {
        let network = lab.network();
        let a = lab.pod(&network, "a");
        serve(&a.netns, 80);
        let stream = netns::dial(a.netns.as_fd(), 80, SOON).unwrap();
        assert_eq!(stream.peer_addr().unwrap().to_string(), "127.0.0.1:80");
        let text = netns::dial(a.netns.as_fd(), 81, SOON)
            .unwrap_err()
            .to_string();
        assert_eq!(text, "connect(127.0.0.1:81): connection refused");
        // A server that speaks IPv6 only.
        a.run("sysctl -qw net.ipv6.bindv6only=1");
        serve(&a.netns, 82);
        let stream = netns::dial(a.netns.as_fd(), 82, SOON).unwrap();
        assert_eq!(stream.peer_addr().unwrap().to_string(), "[::1]:82");
        serve(&lab.world, 80);
        let before = netns::counters(a.netns.as_fd()).unwrap();
        call(&a.netns, (ip(WORLD4), 80)).unwrap();
        let after = netns::counters(a.netns.as_fd()).unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(before[0].name, "eth0");
        assert!(after[0].counters.rx_bytes > before[0].counters.rx_bytes);
        assert!(after[0].counters.tx_packets > before[0].counters.tx_packets);
    });
}

#[test]
fn traffic_is_limited_both_ways() {
    lab("limit", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let before = picture();
        let a = lab.pod_with(&network, "a", |a| {
            a.bandwidth = Bandwidth {
                ingress: Some(8_000_000),
                egress: Some(50_000_000_000),
            };
        });
        serve(&lab.world, 80);
        assert_eq!(call(&a.netns, (ip(WORLD4), 80)), Some(ip(HOST4)));
        let host = a.setup.host_interface.as_deref().unwrap();
        let text = run(&format!("tc qdisc show dev {host}"));
        assert!(
            text.contains("tbf") && text.contains("rate 8Mbit"),
            "{text}"
        );
        let queue = host.replacen("hv", "hb", 1);
        let text = run(&format!("tc -s qdisc show dev {queue}"));
        assert!(
            text.contains("tbf") && text.contains("rate 50Gbit"),
            "{text}"
        );
        assert!(!text.contains("Sent 0 bytes"), "{text}");
        network.teardown("a").unwrap();
        assert_eq!(picture(), before);
    });
}

#[test]
fn a_machine_that_learns_its_way_goes_on_to_learn_it() {
    lab("ra", |lab| {
        let setting = |link: &str| run(&format!("cat /proc/sys/net/ipv6/conf/{link}/accept_ra"));
        run("ip link add off0 type veth peer name off1; sysctl -qw net.ipv6.conf.off0.accept_ra=0");
        assert_eq!(
            (setting("up0"), setting("off0")),
            ("1\n".into(), "0\n".into())
        );
        let network = lab.network();
        lab.pod(&network, "a");
        assert_eq!(
            (setting("up0"), setting("off0")),
            ("2\n".into(), "0\n".into())
        );
        assert_eq!(setting("hulltest0"), "0\n");
    });
}

#[test]
fn many_at_once() {
    lab("many", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let before = picture();
        let ids = |thread: usize| (0..5).map(move |n| format!("p{thread}-{n}"));
        for _ in 0..2 {
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let network = &network;
                    scope.spawn(move || ids(thread).for_each(|id| drop(lab.pod(network, &id))));
                }
            });
            assert_eq!(network.addresses_held().unwrap(), 80);
            (0..8)
                .flat_map(ids)
                .for_each(|id| network.check(&id).unwrap());
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let network = &network;
                    scope.spawn(move || ids(thread).for_each(|id| network.teardown(&id).unwrap()));
                }
            });
            assert_eq!(network.addresses_held().unwrap(), 0);
        }
        assert_eq!(picture(), before);
    });
}

#[test]
fn who_joins_a_network_takes_it_as_it_is() {
    lab("join", |lab| {
        let config = Config {
            subnet4: "10.85.0.0/24".parse().ok(),
            published_only: true,
            ..lab.config()
        };
        let first = Network::join(lab.config(), &lab.state()).unwrap();
        assert_eq!(first.config(), lab.config(), "there is none yet");
        let network = Network::open(config, &lab.state()).unwrap();
        let a = lab.pod(&network, "a");
        let mut other = lab.config();
        other.owner = "other".into();
        let other = Network::join(other, &lab.state()).unwrap();
        let b = lab.pod(&other, "b");
        assert_eq!((a.ip4(), b.ip4()), (ip("10.85.0.2"), ip("10.85.0.3")));
        assert_eq!(network.repair().unwrap(), [""; 0]);
        assert_eq!(other.gc(|_| false).0, ["b"]);
        network.check("a").unwrap();
    });
}

#[test]
fn a_machine_without_ipv6_has_pods_without() {
    lab("noipv6", |lab| {
        run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
        let network = lab.network();
        let a = lab.pod(&network, "a");
        assert_eq!(a.setup.ips, ["10.86.0.2/16".parse().unwrap()]);
        serve(&lab.world, 80);
        assert_eq!(call(&a.netns, (ip(WORLD4), 80)), Some(ip(HOST4)));
        let config = Config {
            subnet4: None,
            ..lab.config()
        };
        let text = Network::open(config, &lab.state()).unwrap_err().to_string();
        assert!(text.contains("neither subnet4 nor subnet6"), "{text}");
    });
}

#[test]
fn a_namespace_of_a_user_namespace_is_adopted() {
    lab("adopt", |lab| {
        let network = lab.network();
        let mut child = std::process::Command::new("unshare")
            .args([
                "--user",
                "--map-root-user",
                "--net",
                "sh",
                "-c",
                "echo; read _",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let theirs = format!("/proc/{}/ns/net", child.id());
        let path = network.adopt_netns("a", theirs.as_ref()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let setup = network.setup(&Attachment::new("a", &path)).unwrap();
        let netns = std::fs::File::open(&path).unwrap();
        serve(&netns, 80);
        assert!(call_here((setup.ip().unwrap(), 80)).is_some());
        network.teardown("a").unwrap();
        assert!(!path.exists());
    });
}
