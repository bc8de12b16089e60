//! `hullctl image`: images in registries, layouts, archives and the store, without a daemon.

mod archives;
mod bundle;
mod changes;
mod container;
mod copy;
mod inspect;
mod layers;
mod local;
mod options;
mod place;
mod progress;
mod pull;
mod registry;

pub use options::{find, store_root};
pub use pull::fetch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command};

/// The definition.
pub fn command() -> Command {
    Command::new("image")
        .about("Images: fetch, look at, copy, keep")
        .arg_required_else_help(true)
        .subcommand_required(true)
        .subcommand(pull::command())
        .subcommand(archives::push_command())
        .subcommand(copy::command())
        .subcommand(local::ls_command())
        .subcommand(inspect::command())
        .subcommand(local::history_command())
        .subcommand(local::tag_command())
        .subcommand(local::rm_command())
        .subcommand(archives::save_command())
        .subcommand(archives::load_command())
        .subcommand(archives::import_command())
        .subcommand(bundle::unpack_command())
        .subcommand(bundle::repack_command())
        .subcommand(container::commit_command())
        .subcommand(container::diff_command())
        .subcommand(container::check_command())
        .subcommand(local::mount_command())
        .subcommand(local::umount_command())
        .subcommand(local::df_command())
        .subcommand(local::gc_command())
        .subcommand(registry::list_tags_command())
        .subcommand(registry::delete_command())
        .subcommand(registry::login_command())
        .subcommand(registry::logout_command())
}

/// Commands that write the store, or read files of layers, which may belong to others than the
/// user: these are root of the user's own ids. `copy` finds out.
const OF_ROOT: [&str; 12] = [
    "pull", "push", "save", "load", "import", "commit", "diff", "check", "tag", "rm", "umount",
    "gc",
];

/// Becomes root of the user's own ids, unless we are root.
fn own_root() -> Result<()> {
    crate::run::become_root(&mut |text| eprintln!("hullctl: {text}"))
}

/// Runs a subcommand.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    if m.subcommand_name()
        .is_some_and(|name| OF_ROOT.contains(&name))
    {
        own_root()?;
    }
    if m.subcommand_name() == Some("diff") && runtime::is_rootless() {
        // What it mounts to compare goes with it.
        crate::run::private_mounts()?;
    }
    match m.subcommand() {
        Some(("pull", m)) => pull::run(m),
        Some(("copy", m)) => copy::run(m),
        Some(("push", m)) => archives::push(m),
        Some(("save", m)) => archives::save(m),
        Some(("load", m)) => archives::load(m),
        Some(("import", m)) => archives::import(m),
        Some(("unpack", m)) => bundle::run_unpack(m),
        Some(("repack", m)) => bundle::run_repack(m),
        Some(("commit", m)) => container::commit(m),
        Some(("diff", m)) => container::run_diff(m),
        Some(("check", m)) => container::check(m),
        Some(("ls", m)) => local::ls(m),
        Some(("inspect", m)) => inspect::run(m),
        Some(("history", m)) => local::history(m),
        Some(("tag", m)) => local::tag(m),
        Some(("rm", m)) => local::rm(m),
        Some(("mount", m)) => local::mount(m),
        Some(("umount", m)) => local::umount(m),
        Some(("df", m)) => local::df(m),
        Some(("gc", m)) => local::gc(m),
        Some(("list-tags", m)) => registry::list_tags(m),
        Some(("delete", m)) => registry::delete(m),
        Some(("login", m)) => registry::login(m),
        Some(("logout", m)) => registry::logout(m),
        // clap has refused everything else: subcommand_required.
        _ => Ok(()),
    }?;
    Ok(ExitCode::SUCCESS)
}
