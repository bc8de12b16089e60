//! Measures setup and teardown of attachments: the built-in network, and Debian's CNI plugins
//! (bridge, host-local, portmap) beside it. Everything is in a network namespace of its own.
//!
//! `cargo run --release -p net --example attachments [COUNT]`

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use net::{Attachment, Backend, Config, Network, PortMapping, Protocol, Result};

const NEWNET: u64 = 0x4000_0000;
/// Attached at once in the second round.
const AT_ONCE: usize = 8;

fn main() -> Result<()> {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let count: usize = count.unwrap_or(100);
    sys::namespace::unshare(NEWNET)?;
    let dir = std::env::temp_dir().join(format!("hull-net-bench-{}", std::process::id()));
    let result = measure(&dir, count);
    for id in net::netns::list(&dir.join("netns"))? {
        net::netns::remove(&dir.join("netns"), &id)?;
    }
    // What is left of a directory in /tmp is no measurement's failure.
    let _ = std::fs::remove_dir_all(&dir);
    result
}

fn measure(dir: &Path, count: usize) -> Result<()> {
    println!("{count} attachments, each with a port; milliseconds\n");
    println!(
        "{:<24}{:>10}{:>10}{:>10}{:>10}{:>12}",
        "", "setup", "p99", "teardown", "p99", "8 at once/s"
    );
    let builtin = network(dir, Backend::Builtin)?;
    row("built in", &builtin, count)?;
    if Path::new("/usr/lib/cni/portmap").exists() {
        let cni = network(dir, Backend::Cni)?;
        row("Debian's CNI plugins", &cni, count.min(30))?;
    }
    Ok(())
}

fn network(dir: &Path, backend: Backend) -> Result<Network> {
    let mut config = Config {
        bridge: "hullbench0".into(),
        netns_dir: dir.join("netns"),
        backend,
        ..Config::default()
    };
    config.cni.conf_dir = dir.join("net.d");
    config.cni.bin_dirs = vec!["/usr/lib/cni".into()];
    config.cni.cache_dir = dir.join("cache");
    let list = serde_json::json!({"cniVersion": "1.0.0", "name": "bench", "plugins": [
        {
            "type": "bridge", "bridge": "cnibench0", "isGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "dataDir": dir.join("leases"), "subnet": "10.87.0.0/16"},
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]});
    let conf = &config.cni.conf_dir;
    let written = std::fs::create_dir_all(conf)
        .and_then(|()| std::fs::write(conf.join("10-bench.conflist"), list.to_string()));
    written.map_err(|error| net::Error::Invalid(format!("{}: {error}", conf.display())))?;
    Network::open(config, &dir.join("state"))
}

/// One after the other, then several at once.
fn row(name: &str, network: &Network, count: usize) -> Result<()> {
    // The bridge and the rules are made once.
    network.setup(&attachment(network, 0)?)?;
    network.teardown("bench0")?;
    let attachments: Vec<Attachment> = (1..=count)
        .map(|n| attachment(network, n))
        .collect::<Result<_>>()?;
    let mut setups = Vec::new();
    for attachment in &attachments {
        let start = Instant::now();
        network.setup(attachment)?;
        setups.push(start.elapsed());
    }
    let mut teardowns = Vec::new();
    for attachment in &attachments {
        let start = Instant::now();
        network.teardown(&attachment.id)?;
        teardowns.push(start.elapsed());
    }
    let attachments: Vec<Attachment> = (1..=count)
        .map(|n| attachment(network, n))
        .collect::<Result<_>>()?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let one = |part| move || attach_all(network, part);
        let parts = attachments.chunks(count.div_ceil(AT_ONCE));
        let threads: Vec<_> = parts.map(|part| scope.spawn(one(part))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect::<Result<Vec<()>>>()
    })?;
    let rate = whole(attachments.len()) / start.elapsed().as_secs_f64();
    for attachment in &attachments {
        network.teardown(&attachment.id)?;
    }
    let columns = [&mut setups, &mut teardowns].map(|list| {
        list.sort();
        format!("{:>10.2}{:>10.2}", at(list, 50), at(list, 99))
    });
    println!("{name:<24}{}{rate:>12.0}", columns.concat());
    Ok(())
}

fn attach_all(network: &Network, part: &[Attachment]) -> Result<()> {
    part.iter()
        .try_for_each(|attachment| network.setup(attachment).map(drop))
}

fn attachment(network: &Network, number: usize) -> Result<Attachment> {
    let id = format!("bench{number}");
    let path: PathBuf = network.create_netns(&id)?;
    let port = u16::try_from(10_000 + number).unwrap_or(u16::MAX);
    let mut attachment = Attachment::new(id, path);
    attachment.ports = vec![PortMapping::new(Protocol::Tcp, port, 80)];
    Ok(attachment)
}

/// Milliseconds at a percentile.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len().saturating_sub(1)) * percent / 100;
    sorted
        .get(place)
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn whole(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
