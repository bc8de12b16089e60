//! From the configuration to what the engine takes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pods::oci::{Policy, capabilities};
use pods::{LogLimits, Places, Settings};
use seccomp::profile::Template;
use spec::oci::Rlimit;
use supervise::protocol::External;

use crate::config::Config;

impl Config {
    /// What can be changed while the daemon runs.
    pub fn settings(&self) -> Result<Settings> {
        let c = &self.containers;
        let handlers = self.handlers.iter().map(|(name, handler)| {
            let external = External {
                path: handler.path.clone(),
                root: handler.root.clone(),
            };
            if name == pods::BUILT_IN || name.is_empty() {
                bail!("[handlers.{name}]: that name is the built-in runtime's");
            }
            if !handler.path.is_absolute() {
                bail!(
                    "handlers.{name}.path = {:?}: must be an absolute path",
                    handler.path
                );
            }
            Ok((name.clone(), external))
        });
        let settings = Settings {
            policy: self.policy()?,
            cgroup_parent: self.cgroup_parent().to_owned(),
            handlers: handlers.collect::<Result<_>>()?,
            default_handler: c.default_handler.clone(),
            log: LogLimits {
                max_bytes: Some(c.log_max_bytes).filter(|&n| n > 0),
                max_files: (c.log_max_bytes > 0).then_some(c.log_max_files.max(1)),
                rate: Some(c.log_rate).filter(|&n| n > 0),
            },
            shm_size: c.shm_size,
            exec_output_max: c.exec_output_max,
            stalled_after: Duration::from_secs(c.stalled_seconds),
        };
        settings.handler("").context("containers.default-handler")?;
        pods::oci::cgroup::path(c.cgroup_driver, self.cgroup_parent(), "", "x")
            .context("containers.cgroup-parent")?;
        Ok(settings)
    }

    fn policy(&self) -> Result<Policy> {
        let c = &self.containers;
        let seccomp = if c.seccomp_profile.as_os_str().is_empty() {
            Template::default_profile().context("the built-in seccomp profile")?
        } else {
            let what = || format!("containers.seccomp-profile {}", c.seccomp_profile.display());
            let bytes = std::fs::read(&c.seccomp_profile).with_context(what)?;
            Template::parse(&bytes).with_context(what)?
        };
        let ulimits = c.ulimits.iter().map(|(name, &[soft, hard])| Rlimit {
            kind: format!("RLIMIT_{}", name.to_ascii_uppercase()),
            hard,
            soft,
        });
        Ok(Policy {
            capabilities: capabilities::parse(&c.default_capabilities)
                .context("containers.default-capabilities")?,
            seccomp,
            apparmor: c.apparmor_profile.clone(),
            driver: c.cgroup_driver,
            pids_limit: c.pids_limit,
            cdi_dirs: c.cdi_dirs.clone(),
            ulimits: ulimits.collect(),
            sysctls: c.sysctls.clone(),
            privileged_without_devices: c.privileged_without_devices,
            cgroup_writable: c.cgroup_writable,
        })
    }

    /// Where things lie.
    pub fn places(&self) -> Result<Places> {
        let d = &self.daemon;
        Ok(Places {
            state: d.state.clone(),
            run: d.run.clone(),
            runtime_root: d.runtime_root.clone(),
            hull: if d.hull.as_os_str().is_empty() {
                find_hull()?
            } else {
                d.hull.clone()
            },
        })
    }
}

/// The program `hull`: beside this one, else in PATH.
fn find_hull() -> Result<PathBuf> {
    let own = std::env::current_exe().context("readlink(/proc/self/exe)")?;
    let beside = own.with_file_name("hull");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("hull"));
    std::iter::once(beside)
        .chain(in_path)
        .find(|p| p.is_file())
        .context("the program hull is neither beside hulld nor in PATH; set daemon.hull")
}
