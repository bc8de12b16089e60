//! The bridge that is built in.

use crate::lab::{HOST4, WORLD4, WORLD6, call, call_here, ip, lab, run, serve};
use net::{PortMapping, Protocol};

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
        assert_eq!(a.setup.mtu, Some(1400), "as the default route's link");
        network.check("a").unwrap();
        network.check("b").unwrap();
    });
}

#[test]
fn a_port_of_the_machine_leads_to_the_pod() {
    lab("port", |lab| {
        let network = lab.network();
        let a = lab.pod_with(&network, "a", |a| {
            a.ports = vec![PortMapping::new(Protocol::Tcp, 8080, 80)];
        });
        let b = lab.pod(&network, "b");
        serve(&a.netns, 80);
        assert_eq!(call(&lab.world, (ip(HOST4), 8080)), Some(ip(WORLD4)));
        assert_eq!(
            call(&lab.world, (ip("2001:db8::2"), 8080)),
            Some(ip(WORLD6))
        );
        assert_eq!(call_here((ip("127.0.0.1"), 8080)), Some(ip("10.86.0.1")));
        assert_eq!(call_here((ip(HOST4), 8080)), Some(ip(HOST4)));
        // Another pod, and the pod itself.
        assert_eq!(call(&b.netns, (ip(HOST4), 8080)), Some(ip("10.86.0.1")));
        assert_eq!(call(&a.netns, (ip(HOST4), 8080)), Some(ip("10.86.0.1")));
        network.teardown("a").unwrap();
        assert_eq!(call_here((ip("127.0.0.1"), 8080)), None);
    });
}

#[test]
fn teardown_leaves_nothing() {
    lab("nothing", |lab| {
        let network = lab.network();
        assert!(network.status().ready, "{:?}", network.status());
        let before = crate::lab::picture();
        for id in ["a", "b"] {
            lab.pod_with(&network, id, |a| {
                let port = if a.id == "a" { 8080 } else { 8081 };
                a.ports = vec![PortMapping::new(Protocol::Tcp, port, 80)];
            });
        }
        assert_ne!(crate::lab::picture(), before);
        for id in ["a", "b", "a", "never-there"] {
            network.teardown(id).unwrap();
        }
        assert_eq!(crate::lab::picture(), before);
        assert_eq!(network.addresses_held().unwrap(), 0);
        let left = run(&format!(
            "cd {} && find . -mindepth 2 ! -name last4 ! -name last6",
            lab.dir.display()
        ));
        let dirs = ["addresses", "attachments", "locks", "netns"];
        let left: Vec<&str> = left
            .lines()
            .filter(|l| !dirs.iter().any(|d| l.ends_with(&format!("/{d}"))))
            .collect();
        assert_eq!(left, ["./state/lock"]);
        network.destroy().unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}
