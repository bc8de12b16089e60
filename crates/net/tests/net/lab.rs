//! A machine with an uplink to a world, in network namespaces that go with the test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use net::{Attachment, Config, Network, Setup, netns};

const NEWNET: u64 = 0x4000_0000;
/// A limit for what must come at once; only a failure waits so long.
pub const SOON: Duration = Duration::from_secs(20);
/// How long silence is listened to.
pub const SILENCE: Duration = Duration::from_millis(300);

/// A machine. The thread that made it is in its network namespace.
pub struct Lab {
    pub dir: PathBuf,
    pub world: File,
}

pub const WORLD4: &str = "192.0.2.1";
pub const HOST4: &str = "192.0.2.2";
/// A second address of the machine.
pub const OTHER4: &str = "192.0.2.3";
pub const WORLD6: &str = "2001:db8::1";
pub const HOST6: &str = "2001:db8::2";

/// Runs a test on a thread of its own that is on a new machine.
pub fn lab(name: &str, body: impl FnOnce(&Lab) + Send + 'static) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("hull-net-{}-{number}-{name}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    let thread = std::thread::spawn(move || {
        sys::namespace::unshare(NEWNET).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        let path = netns::create(&dir, "world").unwrap();
        let lab = Lab {
            world: File::open(path).unwrap(),
            dir,
        };
        lab.cable();
        body(&lab);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for dir in [self.dir.clone(), self.dir.join("netns")] {
            for id in netns::list(&dir).unwrap_or_default() {
                let _ = netns::remove(&dir, &id);
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Lab {
    fn cable(&self) {
        let world = self.dir.join("world");
        let world = world.display();
        for line in [
            "ip link set lo up".to_owned(),
            format!("ip link add up0 mtu 1400 type veth peer name up1 netns {world}"),
            "ip link set up0 up".into(),
            format!("ip addr add {HOST4}/24 dev up0"),
            format!("ip addr add {OTHER4}/24 dev up0"),
            format!("ip addr add {HOST6}/64 dev up0 nodad"),
            format!("nsenter --net={world} ip link set up1 mtu 1400 up"),
            format!("nsenter --net={world} ip addr add {WORLD4}/24 dev up1"),
            format!("nsenter --net={world} ip addr add {WORLD6}/64 dev up1 nodad"),
            format!("ip route add default via {WORLD4}"),
            format!("ip -6 route add default via {WORLD6}"),
        ] {
            run(&line);
        }
    }

    pub fn config(&self) -> Config {
        config(&self.dir)
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn network(&self) -> Network {
        Network::open(self.config(), &self.state()).unwrap()
    }

    /// A pod with nothing special.
    pub fn pod(&self, network: &Network, id: &str) -> Pod {
        self.pod_with(network, id, |_| {})
    }

    pub fn pod_with(
        &self,
        network: &Network,
        id: &str,
        change: impl FnOnce(&mut Attachment),
    ) -> Pod {
        let path = network.create_netns(id).unwrap();
        let mut attachment = Attachment::new(id, &path);
        change(&mut attachment);
        let setup = network.setup(&attachment).unwrap();
        Pod {
            netns: File::open(&path).unwrap(),
            path,
            setup,
            attachment,
        }
    }

    pub fn in_world(&self, command: &str) -> String {
        in_netns(&self.dir.join("world"), command)
    }
}

/// A configuration with all files in a directory.
pub fn config(dir: &Path) -> Config {
    Config {
        bridge: "hulltest0".into(),
        owner: "test".into(),
        netns_dir: dir.join("netns"),
        cni: net::CniConfig {
            conf_dir: dir.join("cni/net.d"),
            bin_dirs: vec![dir.join("cni/bin"), "/usr/lib/cni".into()],
            cache_dir: dir.join("cni/cache"),
            timeout_seconds: 20,
            ip_ranges: Vec::new(),
        },
        ..Config::default()
    }
}

pub struct Pod {
    pub netns: File,
    pub path: PathBuf,
    pub setup: Setup,
    pub attachment: Attachment,
}

impl Pod {
    pub fn run(&self, command: &str) -> String {
        in_netns(&self.path, command)
    }

    pub fn ip4(&self) -> IpAddr {
        self.ip(IpAddr::is_ipv4)
    }

    pub fn ip6(&self) -> IpAddr {
        self.ip(IpAddr::is_ipv6)
    }

    fn ip(&self, family: fn(&IpAddr) -> bool) -> IpAddr {
        let mut ips = self.setup.ips.iter().map(|net| net.addr());
        ips.find(family).unwrap()
    }
}

fn in_netns(path: &Path, command: &str) -> String {
    run(&format!("nsenter --net={} {command}", path.display()))
}

/// Runs a command in the calling thread's namespace; returns what it printed.
pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {output:?}");
    text
}

/// Listens in a namespace and tells each caller, by its own address, who it is to the listener.
pub fn serve(namespace: &File, port: u16) -> Server {
    let listener = netns::inside(namespace.as_fd(), || {
        Ok(TcpListener::bind(("::", port)).unwrap())
    });
    let listener = listener.unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = stream.write_all(peer.to_string().as_bytes());
        }
    });
    Server
}

pub struct Server;

/// Calls a server from a namespace: who it says that we are, or none if it is not to be reached.
pub fn call(namespace: &File, to: (IpAddr, u16)) -> Option<IpAddr> {
    let stream = netns::inside(namespace.as_fd(), || Ok(connect(to.into(), SOON)));
    answer(stream.unwrap()?)
}

/// Calls a link-local address by `eth0`.
pub fn call_on_link(namespace: &File, (to, port): (IpAddr, u16)) -> Option<IpAddr> {
    let IpAddr::V6(to) = to else { return None };
    let to = SocketAddrV6::new(to, port, 0, eth0(namespace)).into();
    let stream = netns::inside(namespace.as_fd(), || Ok(connect(to, SOON)));
    answer(stream.unwrap()?)
}

/// The index of a pod's link.
pub fn eth0(namespace: &File) -> u32 {
    let text = netns::inside(namespace.as_fd(), || Ok(run("ip -o link show eth0")));
    let text = text.unwrap();
    text.split(':').next().unwrap().trim().parse().unwrap()
}

/// Calls from the machine itself.
pub fn call_here(to: (IpAddr, u16)) -> Option<IpAddr> {
    answer(connect(to.into(), SOON)?)
}

/// Whether nothing answers, not even with a refusal, or a refusal comes.
pub fn is_closed(namespace: &File, to: (IpAddr, u16)) -> bool {
    let stream = netns::inside(namespace.as_fd(), || Ok(connect(to.into(), SILENCE)));
    stream.unwrap().is_none()
}

fn connect(to: SocketAddr, limit: Duration) -> Option<TcpStream> {
    TcpStream::connect_timeout(&to, limit).ok()
}

fn answer(mut stream: TcpStream) -> Option<IpAddr> {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

/// A datagram socket in a namespace.
pub fn udp(namespace: &File, at: &str) -> UdpSocket {
    let socket = netns::inside(namespace.as_fd(), || Ok(UdpSocket::bind(at).unwrap()));
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// All that the machine's kernel holds of a network: links, addresses, routes, rules.
pub fn picture() -> String {
    // Whether there is a carrier, and with it a link-local address, shows by and by.
    run("ip -br link | awk '{print $1, $3}'
        ip -br addr | sed 's/ [A-Z]* / /; s# fe80::[0-9a-f:]*/64##; s/ *$//'
        ip route | sed 's/ linkdown//; s/ *$//'
        nft -s list ruleset")
}

/// Waits until something is so.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + SOON;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
