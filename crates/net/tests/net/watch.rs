//! What someone else took away comes back.

use std::sync::{Arc, mpsc};

use crate::lab::{HOST4, SOON, WORLD4, call, ip, lab, picture, run, serve};
use net::WatchEvent;

#[test]
fn rules_and_links_come_back() {
    lab("watch", |lab| {
        let network = Arc::new(lab.network());
        let a = lab.pod_with(&network, "a", |a| {
            a.ports = vec!["8080:80".parse().unwrap()];
        });
        serve(&a.netns, 80);
        let (send, events) = mpsc::channel();
        let watch = network.watch(move |event| send.send(event).unwrap());
        let watch = watch.unwrap();
        let whole = picture();
        let link = a.setup.host_interface.clone().unwrap();
        for (command, words) in [
            ("nft flush ruleset", "rules of hulltest0 were gone"),
            (
                "nft flush chain inet hull-hulltest0 arriving",
                "were not ours",
            ),
            ("nft delete table bridge hull-hulltest0", "were not ours"),
            (
                "nft flush map inet hull-hulltest0 any4",
                "elements were gone",
            ),
            (
                "sysctl -qw net.ipv4.ip_forward=0",
                "net.ipv4.ip_forward was off",
            ),
            (
                "sysctl -qw net.ipv6.conf.all.forwarding=0",
                "net.ipv6.conf.all.forwarding was off",
            ),
            (
                "ip addr del 10.86.0.1/16 dev hulltest0",
                "had no address 10.86.0.1/16",
            ),
            (&format!("ip link set {link} nomaster"), "of pod a was off"),
            (&format!("ip link set {link} down"), "of pod a was off"),
            ("ip link set hulltest0 down", "bridge hulltest0 was down"),
            ("ip link del hulltest0", "bridge hulltest0 was gone"),
        ] {
            run(command);
            let mut said = Vec::new();
            while !said.iter().any(|text: &String| text.contains(words)) {
                match events.recv_timeout(SOON) {
                    Ok(WatchEvent::Restored(list)) => said.extend(list),
                    Ok(WatchEvent::Failed(error)) => panic!("{command}: {error}"),
                    Err(_) => panic!("{command}: not {words:?} but {said:?}"),
                }
            }
            let answer = call(&lab.world, (ip(HOST4), 8080));
            assert_eq!(answer, Some(ip(WORLD4)), "{command}");
            network.check("a").unwrap();
        }
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let mtu = |text: &str| text.replace("mtu 1500", "mtu 1400");
        assert_eq!(sorted(&mtu(&picture())), sorted(&whole));
        drop(watch);
        // A watch that ended hears nothing.
        run("nft flush ruleset");
        assert!(events.recv().is_err());
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn a_pods_link_that_is_gone_is_told_of_and_foreign_elements_go() {
    lab("drift", |lab| {
        let network = lab.network();
        let a = lab.pod(&network, "a");
        assert_eq!(network.repair().unwrap(), [""; 0]);
        run("nft add element inet hull-hulltest0 any4 '{ tcp . 22 : 10.86.0.2 . 22 }'");
        assert_eq!(network.repair().unwrap(), ["1 elements were not ours"]);
        a.run("ip link del eth0");
        let found = network.repair().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("of pod a is gone"), "{found:?}");
        network.teardown("a").unwrap();
        assert_eq!(network.repair().unwrap(), [""; 0]);
    });
}
