//! What a pod may not do.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd as _;

use crate::lab::{HOST4, SOON, WORLD4, call, eth0, ip, is_closed, lab, run, serve};
use net::{Config, Network, netns};
use rustix::net::{AddressFamily, SocketAddrV6, SocketFlags, SocketType, ipproto, sendto};

#[test]
fn a_pod_sends_from_its_own_addresses_only() {
    lab("spoof", |lab| {
        let network = lab.network();
        let (a, b) = (lab.pod(&network, "a"), lab.pod(&network, "b"));
        serve(&b.netns, 80);
        serve(&lab.world, 80);
        let to_b = (b.ip4(), 80);
        assert_eq!(call(&a.netns, to_b), Some(a.ip4()));
        a.run("ip addr add 10.86.0.99/16 dev eth0");
        a.run("ip route replace 10.86.0.0/16 dev eth0 src 10.86.0.99");
        assert!(is_closed(&a.netns, to_b));
        a.run("ip route replace default via 10.86.0.1 src 10.86.0.99");
        assert!(is_closed(&a.netns, (ip(WORLD4), 80)));
        a.run("ip route replace 10.86.0.0/16 dev eth0 src 10.86.0.2");
        assert_eq!(call(&a.netns, to_b), Some(a.ip4()));
        a.run("ip link set eth0 address 0a:04:0a:56:00:63");
        assert!(is_closed(&a.netns, to_b));
        a.run(&format!(
            "ip link set eth0 address {}",
            a.setup.mac.unwrap()
        ));
        assert_eq!(call(&a.netns, to_b), Some(a.ip4()));
        // What is not wanted can be switched off.
        let config = Config {
            source_check: false,
            ..lab.config()
        };
        let network = Network::open(config, &lab.state()).unwrap();
        assert_ne!(network.repair().unwrap(), [""; 0]);
        a.run("ip route replace 10.86.0.0/16 dev eth0 src 10.86.0.99");
        assert_eq!(call(&a.netns, to_b), Some(ip("10.86.0.99")));
    });
}

/// CVE-2020-10749, in both halves: none is let through, and none would be heard.
#[test]
fn a_pod_is_no_router() {
    lab("router", |lab| {
        let network = lab.network();
        let (a, b) = (lab.pod(&network, "a"), lab.pod(&network, "b"));
        let routers = || b.run("ip -6 route show default proto ra");
        for setting in ["all", "default", "eth0"] {
            let text = b.run(&format!("cat /proc/sys/net/ipv6/conf/{setting}/accept_ra"));
            assert_eq!(text, "0\n", "{setting}");
        }
        // From now on it listens.
        b.run("sysctl -qw net.ipv6.conf.eth0.accept_ra=2");
        advertise(&a.netns);
        call_is_through(&a.netns, &b.netns, b.ip6());
        assert_eq!(routers(), "");
        run("nft delete table bridge hull-hulltest0");
        advertise(&a.netns);
        call_is_through(&a.netns, &b.netns, b.ip6());
        assert!(routers().contains("via fe80::"), "{}", routers());
    });
}

/// What was sent before has arrived when this has.
fn call_is_through(from: &File, to: &File, at: std::net::IpAddr) {
    let listener = netns::inside(to.as_fd(), || Ok(TcpListener::bind(("::", 0)).unwrap()));
    let listener = listener.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = netns::inside(from.as_fd(), || {
        Ok(std::net::TcpStream::connect_timeout(&(at, port).into(), SOON).unwrap())
    });
    drop(stream.unwrap());
}

/// Sends a router advertisement to all of the link.
fn advertise(from: &File) {
    let message = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let socket = netns::inside(from.as_fd(), || {
        let kind = SocketType::RAW;
        let protocol = Some(ipproto::ICMPV6);
        let flags = SocketFlags::CLOEXEC;
        Ok(rustix::net::socket_with(AddressFamily::INET6, kind, flags, protocol).unwrap())
    });
    let socket = socket.unwrap();
    rustix::net::sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
    let all = "ff02::1".parse().unwrap();
    let to = SocketAddrV6::new(all, 0, 0, eth0(from));
    sendto(&socket, &message, rustix::net::SendFlags::empty(), &to).unwrap();
}

/// CVE-2020-8558.
#[test]
fn the_machines_loopback_is_not_reached() {
    lab("loopback", |lab| {
        let network = lab.network();
        let a = lab.pod_with(&network, "a", |a| {
            a.ports = vec!["8080:80".parse().unwrap()];
        });
        let _listener = TcpListener::bind(("127.0.0.1", 9999)).unwrap();
        for command in [
            "ip addr del 127.0.0.1/8 dev lo",
            "sysctl -qw net.ipv4.conf.all.route_localnet=1",
            "ip route add 127.0.0.1 via 10.86.0.1",
        ] {
            a.run(command);
        }
        let to = (ip("127.0.0.1"), 9999);
        assert!(is_closed(&a.netns, to));
        run("nft flush chain inet hull-hulltest0 guard");
        assert!(!is_closed(&a.netns, to), "the test would not see it");
    });
}

#[test]
fn the_world_reaches_published_ports_only_if_it_is_so_configured() {
    lab("published", |lab| {
        let config = Config {
            published_only: true,
            ..lab.config()
        };
        let network = Network::open(config, &lab.state()).unwrap();
        let a = lab.pod_with(&network, "a", |a| {
            a.ports = vec!["8080:80".parse().unwrap()];
        });
        let b = lab.pod(&network, "b");
        serve(&a.netns, 80);
        serve(&lab.world, 80);
        lab.in_world(&format!("ip route add 10.86.0.0/16 via {HOST4}"));
        assert!(is_closed(&lab.world, (a.ip4(), 80)));
        assert_eq!(call(&lab.world, (ip(HOST4), 8080)), Some(ip(WORLD4)));
        assert_eq!(call(&b.netns, (a.ip4(), 80)), Some(b.ip4()));
        assert_eq!(call(&a.netns, (ip(WORLD4), 80)), Some(ip(HOST4)));
        assert_ne!(lab.network().repair().unwrap(), [""; 0]);
        assert_eq!(call(&lab.world, (a.ip4(), 80)), Some(ip(WORLD4)));
    });
}

#[test]
fn another_firewall_that_drops_is_told_of() {
    lab("foreign", |lab| {
        let network = lab.network();
        assert_eq!(network.status().warnings, [""; 0]);
        run(
            "nft 'table ip other { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
        );
        let warnings = network.status().warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("other FORWARD"), "{warnings:?}");
    });
}
