//! `hullctl ns ls`: the namespaces of the machine.

mod args;
mod collect;
mod columns;
mod filter;
mod netnsid;
mod show;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use clap::ArgMatches;

pub use args::command;
use args::{Plan, Tree};
use collect::{Collected, Namespace};

/// Shows them; exit code 2 where the kernel tells no parents and owners, as lsns has it.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    if m.get_flag("list-columns") {
        print!("{}", columns::help());
        return Ok(ExitCode::SUCCESS);
    }
    let plan = args::parse(m)?;
    let collected = collect::collect(&plan.root)?;
    let mut shown: Vec<&Namespace> = Vec::new();
    for namespace in &collected.namespaces {
        if wanted(&plan, &collected, namespace)? {
            shown.push(namespace);
        }
    }
    if let Some(inode) = plan.inode {
        show::processes(&plan, &collected, inode)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = match plan.tree {
        None => tree::flat(&shown),
        Some(Tree::Container) => {
            show::print(&show::by_container(&collected, &shown));
            return Ok(ExitCode::SUCCESS);
        }
        Some(by) => tree::below(&shown, by, &collected),
    };
    show::namespaces(&plan, &collected, &rows)?;
    let untold = collected.relations_unknown && plan.shows_relations();
    Ok(ExitCode::from(if untold { 2 } else { 0 }))
}

fn wanted(plan: &Plan, all: &Collected, namespace: &Namespace) -> Result<bool> {
    if !plan.kinds.is_empty() && !plan.kinds.contains(&namespace.kind) {
        return Ok(false);
    }
    if plan.persistent && !namespace.pids.is_empty() {
        return Ok(false);
    }
    if let Some(pid) = plan.task
        && super::kinds::inode_of(pid, namespace.kind) != Some(namespace.inode)
    {
        return Ok(false);
    }
    match &plan.filter {
        Some(filter) => {
            filter.holds(&|name| columns::by_name(name).map(|c| c.text(namespace, all)))
        }
        None => Ok(true),
    }
}
