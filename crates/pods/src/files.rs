//! A pod's files on the host: `resolv.conf`, `hostname`, `hosts`, and the tmpfs for `/dev/shm`.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use cri_api::v1::{DnsConfig, PodSandboxConfig};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};

use crate::error::{Doing, Error, Result};
use crate::oci::IdMaps;

/// A directory for us alone, made where missing.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path);
    made.doing(|| format!("mkdir({}, 0700)", path.display()))
}

/// Writes them. The addresses come later, by [`write_hosts`].
pub(crate) fn write(dir: &Path, config: &PodSandboxConfig, host_network: bool) -> Result<()> {
    let dns = config
        .dns_config
        .as_ref()
        .filter(|d| **d != DnsConfig::default());
    let resolv = match dns {
        Some(dns) => resolv_conf(dns)?,
        None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    put(&dir.join("resolv.conf"), &resolv)?;
    let hostname = if config.hostname.is_empty() || host_network {
        fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned()
    } else {
        config.hostname.clone()
    };
    if hostname.contains(char::is_whitespace) {
        return Err(Error::invalid(format!(
            "hostname {hostname:?}: has a blank in it"
        )));
    }
    put(&dir.join("hostname"), &format!("{hostname}\n"))
}

/// Writes the table of names, as far as addresses are known.
pub(crate) fn write_hosts(dir: &Path, config: &PodSandboxConfig, ips: &[String]) -> Result<()> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    if !config.hostname.is_empty() {
        for ip in ips {
            // Into a String: it cannot fail.
            let _ = writeln!(text, "{ip}\t{}", config.hostname);
        }
    }
    put(&dir.join("hosts"), &text)
}

fn resolv_conf(dns: &DnsConfig) -> Result<String> {
    let all = || dns.servers.iter().chain(&dns.searches).chain(&dns.options);
    if let Some(bad) = all().find(|word| word.contains(char::is_whitespace)) {
        return Err(Error::invalid(format!(
            "dns_config: {bad:?} has a blank in it"
        )));
    }
    let mut text = String::new();
    if !dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", dns.searches.join(" "));
    }
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    Ok(text)
}

/// Readable by all: containers run as anybody.
fn put(path: &Path, text: &str) -> Result<()> {
    let what = || format!("write({})", path.display());
    fs::write(path, text).doing(what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).doing(what)
}

/// Mounts the pod's shared memory.
pub(crate) fn mount_shm(dir: &Path, size: u64, user: Option<&IdMaps>) -> Result<()> {
    let path = dir.join("shm");
    let what = || format!("mount(tmpfs, {}, size={size})", path.display());
    fs::create_dir_all(&path).doing(what)?;
    let root = |maps: &[spec::oci::IdMapping]| {
        maps.iter()
            .find(|m| m.container_id == 0)
            .map_or(0, |m| m.host_id)
    };
    let (uid, gid) = user.map_or((0, 0), |maps| (root(&maps.uids), root(&maps.gids)));
    let options = format!("mode=1777,size={size},uid={uid},gid={gid}");
    let options = std::ffi::CString::new(options).doing(what)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount("shm", &path, "tmpfs", flags, options.as_c_str()).doing(what)?;
    // Nobody else's mount namespace gets it.
    mount_change(&path, MountPropagationFlags::PRIVATE).doing(what)
}

/// Removes a pod's directory and what is mounted there.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    let shm = dir.join("shm");
    match unmount(&shm, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // EINVAL: nothing is mounted there.
        Ok(()) | Err(rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {}
        Err(e) => return Err(Error::failed(format!("umount({})", shm.display()), e)),
    }
    remove_tree(dir)
}

/// Removes a directory; one that is gone is no error.
pub(crate) fn remove_tree(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::failed(format!("rmdir -r({})", dir.display()), e))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_settings() {
        let words = |w: &[&str]| w.iter().map(|&w| w.to_owned()).collect();
        let dns = DnsConfig {
            servers: words(&["10.0.0.10", "fd00::10"]),
            searches: words(&["a.local", "local"]),
            options: words(&["ndots:5"]),
        };
        assert_eq!(
            resolv_conf(&dns).unwrap(),
            "search a.local local\nnameserver 10.0.0.10\nnameserver fd00::10\noptions ndots:5\n"
        );
        let bad = DnsConfig {
            servers: words(&["1.1.1.1\noptions x"]),
            ..DnsConfig::default()
        };
        assert!(resolv_conf(&bad).is_err());
    }
}
