//! Ports of the machine that lead to pods.

use std::fs::File;
use std::net::{IpAddr, UdpSocket};

use crate::lab::{
    HOST4, HOST6, Lab, OTHER4, Pod, SILENCE, SOON, WORLD4, WORLD6, call, call_here, ip, is_closed,
    lab, run, serve, udp,
};
use net::{Attachment, ErrorKind, Network, PortMapping, Protocol};

fn pod(lab: &Lab, network: &Network, id: &str, ports: &[&str]) -> Pod {
    lab.pod_with(network, id, |a| a.ports = mappings(ports))
}

fn mappings(ports: &[&str]) -> Vec<PortMapping> {
    ports.iter().map(|text| text.parse().unwrap()).collect()
}

fn home() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

#[test]
fn a_port_of_the_machine_leads_to_the_pod() {
    lab("port", |lab| {
        // Whether or not bridged packets come by the rules (br_netfilter).
        for filtered in ["0", "1"] {
            for family in ["iptables", "ip6tables"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
                if std::path::Path::new(&path).exists() {
                    std::fs::write(path, filtered).unwrap();
                }
            }
            let network = lab.network();
            let a = pod(lab, &network, "a", &["8080:80"]);
            let b = lab.pod(&network, "b");
            serve(&a.netns, 80);
            let gateway = Some(ip("10.86.0.1"));
            assert_eq!(call(&lab.world, (ip(HOST4), 8080)), Some(ip(WORLD4)));
            assert_eq!(call(&lab.world, (ip(HOST6), 8080)), Some(ip(WORLD6)));
            assert_eq!(call_here((ip("127.0.0.1"), 8080)), gateway);
            assert_eq!(call_here((ip(HOST4), 8080)), Some(ip(HOST4)));
            assert_eq!(call_here((ip("::1"), 8080)), None);
            // Another pod, and the pod itself.
            assert_eq!(call(&b.netns, (ip(HOST4), 8080)), gateway);
            assert_eq!(call(&a.netns, (ip(HOST4), 8080)), gateway);
            assert_eq!(
                call(&a.netns, (ip(HOST6), 8080)),
                Some(ip("fd68:756c:6c00::1"))
            );
            network.teardown("a").unwrap();
            network.teardown("b").unwrap();
            assert_eq!(call_here((ip("127.0.0.1"), 8080)), None);
            assert!(is_closed(&lab.world, (ip(HOST4), 8080)));
        }
    });
}

#[test]
fn a_port_of_one_address_is_on_no_other() {
    lab("hostip", |lab| {
        let network = lab.network();
        let one = format!("{HOST4}:8080:80");
        let a = pod(
            lab,
            &network,
            "a",
            &[&one, "127.0.0.1:8081:80", "0.0.0.0:8082:80"],
        );
        let b = lab.pod(&network, "b");
        serve(&a.netns, 80);
        serve(&lab.world, 8080);
        serve(&lab.world, 8082);
        assert_eq!(call(&lab.world, (ip(HOST4), 8080)), Some(ip(WORLD4)));
        assert!(is_closed(&lab.world, (ip(OTHER4), 8080)));
        assert!(is_closed(&lab.world, (ip(HOST6), 8080)));
        assert!(is_closed(&home(), (ip("127.0.0.1"), 8080)));
        // What only passes the machine is not taken (CVE-2025-67499).
        for port in [8080, 8082] {
            assert_eq!(call(&b.netns, (ip(WORLD4), port)), Some(ip(HOST4)));
            assert_eq!(call_here((ip(WORLD4), port)), Some(ip(HOST4)));
        }
        assert!(call_here((ip("127.0.0.1"), 8081)).is_some());
        assert!(is_closed(&lab.world, (ip(HOST4), 8081)));
        // All addresses of one family.
        assert!(call(&lab.world, (ip(OTHER4), 8082)).is_some());
        assert!(is_closed(&lab.world, (ip(HOST6), 8082)));
    });
}

#[test]
fn a_taken_port_is_refused_by_name() {
    lab("taken", |lab| {
        let network = lab.network();
        let a = pod(lab, &network, "a", &["8080:80", "5300-5302:53-55/udp"]);
        serve(&a.netns, 80);
        let path = network.create_netns("b").unwrap();
        let attempt = |ports: &[&str]| {
            let mut attachment = Attachment::new("b", &path);
            attachment.ports = mappings(ports);
            let error = network.setup(&attachment).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
            error.to_string()
        };
        for (port, words) in [
            ("8080:1", "host port 8080/tcp leads to pod a"),
            ("5302:1/udp", "host port 5302/udp leads to pod a"),
        ] {
            let text = attempt(&["9000:1", port]);
            assert!(text.contains(words), "{text}");
        }
        serve(&home(), 9001);
        let _udp = udp(&home(), "127.0.0.1:9002");
        for port in ["9001:1", "127.0.0.1:9002:1/udp"] {
            let text = attempt(&[port]);
            assert!(
                text.contains("a process of this machine listens there"),
                "{text}"
            );
        }
        // The one who has it still has it.
        assert_eq!(call(&lab.world, (ip(HOST4), 8080)), Some(ip(WORLD4)));
        assert_eq!(network.addresses_held().unwrap(), 2);
        assert!(is_closed(&lab.world, (ip(HOST4), 9000)));
    });
}

#[test]
fn udp_flows_follow_the_port() {
    lab("udp", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let client = udp(&lab.world, "0.0.0.0:4000");
        client.set_read_timeout(Some(SILENCE)).unwrap();
        let host = (ip(HOST4), 5300);
        // The kernel remembers that no one was there.
        client.send_to(b"anyone?", host).unwrap();
        client.recv(&mut [0; 16]).unwrap_err();
        for id in ["a", "b"] {
            let pod = pod(lab, &network, id, &["5300:53/udp"]);
            let server = udp(&pod.netns, "0.0.0.0:53");
            ask(&client, &server, host);
            network.teardown(id).unwrap();
        }
    });
}

/// A datagram there and back.
fn ask(client: &UdpSocket, server: &UdpSocket, to: (IpAddr, u16)) {
    client.set_read_timeout(Some(SOON)).unwrap();
    client.send_to(b"ask", to).unwrap();
    let mut buffer = [0; 16];
    let (_, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(from.ip(), ip(WORLD4));
    server.send_to(b"answer", from).unwrap();
    let (n, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..n], from), (b"answer".as_slice(), to.into()));
}

#[test]
fn thousands_of_ports_and_all_protocols() {
    lab("many", |lab| {
        let network = lab.network();
        assert!(network.status().ready);
        let before = crate::lab::picture();
        let a = pod(
            lab,
            &network,
            "a",
            &[
                "20000-23999:20000-23999",
                "20000-23999:30000-33999/udp",
                "20000-20010:9000-9010/sctp",
            ],
        );
        for port in [20_000, 21_234, 23_999] {
            serve(&a.netns, port);
            assert_eq!(call(&lab.world, (ip(HOST4), port)), Some(ip(WORLD4)));
        }
        let server = udp(&a.netns, "0.0.0.0:33999");
        ask(&udp(&lab.world, "0.0.0.0:0"), &server, (ip(HOST4), 23_999));
        let elements = run("nft list map inet hull-hulltest0 any4");
        assert_eq!(elements.matches(" : ").count(), 8011 + 1);
        assert!(elements.contains("sctp . 20010"), "{elements:.200}");
        network.check("a").unwrap();
        network.teardown("a").unwrap();
        assert_eq!(crate::lab::picture(), before);
    });
}

#[test]
fn the_way_from_127_0_0_1_is_open_only_while_it_is_needed() {
    lab("localnet", |lab| {
        let network = lab.network();
        let setting = || run("cat /proc/sys/net/ipv4/conf/hulltest0/route_localnet");
        let one = format!("{HOST4}:8080:80");
        pod(lab, &network, "a", &[&one]);
        assert_eq!(setting(), "0\n");
        pod(lab, &network, "b", &["8081:80"]);
        pod(lab, &network, "c", &["127.0.0.1:8082:80"]);
        assert_eq!(setting(), "1\n");
        network.teardown("b").unwrap();
        assert_eq!(setting(), "1\n");
        network.teardown("c").unwrap();
        assert_eq!(setting(), "0\n");
    });
}

#[test]
fn ports_of_a_mapping_that_is_no_port() {
    let mut mapping = PortMapping::new(Protocol::Tcp, 65_535, 1);
    mapping.count = 2;
    lab("noport", move |lab| {
        let network = lab.network();
        let path = network.create_netns("a").unwrap();
        let mut attachment = Attachment::new("a", &path);
        attachment.ports = vec![mapping];
        let text = network.setup(&attachment).unwrap_err().to_string();
        assert!(text.contains("65535-65536"), "{text}");
    });
}
