//! `hull checkpoint`.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use runtime::criu::{CgroupsMode, CheckpointRequest, Common, Switches, checkpoint};
use runtime::{Error, Result};

use crate::Context;
use crate::options::{all, command, given, given_path, id, is_on, path, switch, text, texts};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("checkpoint", "Save a running container to disk with criu")
        .arg(path("image-path", "DIR", "Where the image goes"))
        .arg(path("work-path", "DIR", "Where criu works and logs"))
        .arg(path("parent-path", "DIR", "Image of an earlier --pre-dump"))
        .arg(switch("leave-running", "Let the container go on"))
        .arg(switch("tcp-established", "Allow open TCP connections"))
        .arg(switch(
            "tcp-skip-in-flight",
            "Leave out TCP connections that are being made",
        ))
        .arg(switch(
            "link-remap",
            "Allow unlinked files to be linked again",
        ))
        .arg(switch("ext-unix-sk", "Allow external unix sockets"))
        .arg(switch("shell-job", "Allow shell jobs"))
        .arg(switch("lazy-pages", "Let memory be fetched by userfaultfd"))
        .arg(text(
            "status-fd",
            "FD",
            "criu writes a zero byte here when it is ready to serve pages",
        ))
        .arg(text(
            "page-server",
            "ADDRESS:PORT",
            "Address of a page server",
        ))
        .arg(switch("file-locks", "Allow file locks"))
        .arg(switch(
            "pre-dump",
            "Dump memory only and let the container go on",
        ))
        .arg(manage_cgroups_mode())
        .arg(texts(
            "empty-ns",
            "NAMESPACE",
            "Make this namespace, but do not restore its properties",
        ))
        .arg(switch(
            "auto-dedup",
            "Drop pages of earlier images that are saved again",
        ))
        .arg(id())
}

/// How criu treats control groups.
pub(super) fn manage_cgroups_mode() -> Arg {
    text(
        "manage-cgroups-mode",
        "MODE",
        "How criu treats control groups",
    )
    .value_parser(["soft", "full", "strict", "ignore"])
}

/// Saves it.
///
/// # Errors
/// Those of [`checkpoint`].
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let root = context.make_root()?;
    let container = context.container(matches)?;
    if context.rootless {
        context.warn("checkpoints of rootless containers need rights that criu may not have");
    }
    let request = CheckpointRequest {
        common: common(matches)?,
        parent_path: given_path(matches, "parent-path"),
        pre_dump: is_on(matches, "pre-dump"),
        page_server: given(matches, "page-server").map(page_server).transpose()?,
        status_fd: given(matches, "status-fd").map(descriptor).transpose()?,
    };
    checkpoint(&root, &container, &request, &mut |w| context.warn(w))?;
    Ok(0)
}

/// What checkpoint and restore have in common.
pub(super) fn common(matches: &ArgMatches) -> Result<Common> {
    // The contents of the network namespace are left to others in any case.
    if let Some(name) = all(matches, "empty-ns")
        .into_iter()
        .find(|name| *name != "network")
    {
        let text = format!("namespace {name:?} is not supported");
        return Err(Error::Invalid(text));
    }
    let on = |name: &str| matches.try_get_one::<bool>(name).ok().flatten() == Some(&true);
    Ok(Common {
        image_path: given_path(matches, "image-path")
            .unwrap_or_else(|| PathBuf::from("checkpoint")),
        work_path: given_path(matches, "work-path"),
        cgroups_mode: match given(matches, "manage-cgroups-mode") {
            Some("full") => CgroupsMode::Full,
            Some("strict") => CgroupsMode::Strict,
            Some("ignore") => CgroupsMode::Ignore,
            _ => CgroupsMode::Soft,
        },
        switches: Switches {
            leave_running: on("leave-running"),
            tcp_established: on("tcp-established"),
            tcp_skip_in_flight: on("tcp-skip-in-flight"),
            link_remap: on("link-remap"),
            ext_unix_sk: on("ext-unix-sk"),
            shell_job: on("shell-job"),
            lazy_pages: on("lazy-pages"),
            file_locks: on("file-locks"),
            auto_dedup: on("auto-dedup"),
            ..Switches::default()
        },
    })
}

fn page_server(text: &str) -> Result<(String, u16)> {
    let bad = || Error::Invalid("use --page-server ADDRESS:PORT to specify page server".to_owned());
    let (address, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let port = port
        .parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(bad)?;
    if address.is_empty() {
        return Err(bad());
    }
    Ok((address.to_owned(), port))
}

fn descriptor(text: &str) -> Result<i32> {
    let number = text.parse().ok().filter(|&fd| fd >= 0);
    number.ok_or_else(|| Error::Invalid(format!("status-fd {text:?} is not a descriptor")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Common> {
        let words = ["checkpoint"].into_iter().chain(words.split_whitespace());
        common(&define().try_get_matches_from(words.chain(["id"])).unwrap())
    }

    #[test]
    fn options_become_the_request() {
        let c = parsed(
            "--leave-running --tcp-established --manage-cgroups-mode full --empty-ns network",
        )
        .unwrap();
        assert!(c.switches.leave_running && c.switches.tcp_established);
        assert!(!c.switches.shell_job && !c.switches.lazy_pages);
        assert_eq!(c.cgroups_mode, CgroupsMode::Full);
        let c = parsed("").unwrap();
        assert_eq!(
            (c.image_path, c.cgroups_mode),
            ("checkpoint".into(), CgroupsMode::Soft)
        );
        assert!(parsed("--empty-ns mount").is_err());
        // podman says it twice.
        let c = parsed("--leave-running --leave-running").unwrap();
        assert!(c.switches.leave_running);
    }

    #[test]
    fn addresses_and_descriptors() {
        assert_eq!(page_server("[::1]:27").unwrap(), ("[::1]".to_owned(), 27));
        for bad in ["", "host", ":1", "host:", "host:0", "host:x"] {
            assert!(page_server(bad).is_err(), "{bad}");
        }
        assert_eq!(descriptor("7").unwrap(), 7);
        assert!(descriptor("-1").is_err() && descriptor("x").is_err());
    }
}
