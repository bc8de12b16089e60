//! The command line of `hullctl ns ls`, checked.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use spec::plan::NamespaceKind;

use super::super::args::{flag, option, optional, text};
use super::super::kinds::by_name;
use super::columns::{self, Column};
use super::filter::Filter;

/// What hangs below what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tree {
    /// A namespace below the one that its first process's parent is in.
    Process,
    /// Pid and user namespaces below their parents.
    Parent,
    /// All below the user namespaces that own them.
    Owner,
    /// Below the containers of the state root.
    Container,
}

/// How it is printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// For people.
    Columns,
    /// One blank between cells.
    Raw,
    /// JSON.
    Json,
}

/// A checked command line.
#[derive(Debug)]
pub struct Plan {
    /// What is shown of each.
    pub columns: Vec<Column>,
    /// Only these; all if empty.
    pub kinds: Vec<NamespaceKind>,
    /// Only those of this process.
    pub task: Option<i32>,
    /// Only those without a process.
    pub persistent: bool,
    /// Only those for which this holds.
    pub filter: Option<Filter>,
    /// The processes of this one.
    pub inode: Option<u64>,
    /// As a tree.
    pub tree: Option<Tree>,
    /// How it is printed.
    pub format: Format,
    /// Without a heading.
    pub no_heading: bool,
    /// Not cut to the terminal's width.
    pub no_truncate: bool,
    /// Several mount points on one line, with commas.
    pub no_wrap: bool,
    /// The containers' state root.
    pub root: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  hullctl ns ls --tree=container
      which container has which namespaces, and what it shares with the machine
  hullctl ns ls --type net --output +NSFS
      network namespaces with the files that keep them
  hullctl ns ls --filter 'NPROCS == 1 && TYPE =~ \"pid|mnt\"'
      namespaces with a single process
  hullctl ns ls 4026531836
      the processes in this one";

/// The definition.
pub fn command() -> Command {
    Command::new("ls")
        .about("List namespaces; the options are lsns(8)'s")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("namespace")
                .value_name("NAMESPACE")
                .value_parser(value_parser!(u64))
                .help("Show the processes in this one (its inode number)"),
        )
        .arg(flag("json", "As JSON").short('J'))
        .arg(flag("list", "As a list, not as a tree").short('l'))
        .arg(flag("noheadings", "Without the heading").short('n'))
        .arg(
            option(
                "output",
                "LIST",
                "Columns, separated by commas; +LIST adds to the usual ones",
            )
            .short('o'),
        )
        .arg(flag("output-all", "All columns"))
        .arg(flag("persistent", "Only namespaces without a process").short('P'))
        .arg(
            option("task", "PID", "Only the namespaces of this process")
                .short('p')
                .value_parser(value_parser!(i32)),
        )
        .arg(
            option(
                "filter",
                "EXPR",
                "Only where this holds, such as 'NPROCS > 3 && TYPE == \"net\"'",
            )
            .short('Q'),
        )
        .arg(flag("raw", "One blank between cells").short('r'))
        .arg(
            option(
                "type",
                "KIND",
                "Only this kind: mnt, net, ipc, user, pid, uts, cgroup, time",
            )
            .short('t')
            .action(ArgAction::Append),
        )
        .arg(flag("notruncate", "Do not cut lines to the terminal's width").short('u'))
        .arg(flag("nowrap", "Several mount points on one line").short('W'))
        .arg(
            optional(
                "tree",
                "BY",
                "As a tree by process (usual), parent, owner or container",
            )
            .short('T'),
        )
        .arg(flag("list-columns", "Show the columns that there are").short('H'))
        .arg(
            option("root", "DIR", "Where the runtime keeps its state")
                .value_parser(value_parser!(PathBuf)),
        )
}

/// Checks what clap has parsed.
pub fn parse(m: &ArgMatches) -> Result<Plan> {
    let kinds = m.get_many::<String>("type").unwrap_or_default();
    let kinds = kinds.map(|name| {
        by_name(name).with_context(|| format!("ns ls: --type {name}: no such kind of namespace"))
    });
    let kinds = kinds.collect::<Result<Vec<_>>>()?;
    let format = match (m.get_flag("json"), m.get_flag("raw")) {
        (true, _) => Format::Json,
        (_, true) => Format::Raw,
        _ => Format::Columns,
    };
    let list = m.get_flag("list") || m.get_flag("raw") || m.get_one::<i32>("task").is_some();
    let tree = match text(m, "tree") {
        Some(word) => Some(parse_tree(&word)?),
        None if list || format != Format::Columns => None,
        None => Some(Tree::Process),
    };
    let filter = text(m, "filter").map(|t| Filter::parse(&t)).transpose();
    let root = m.get_one::<PathBuf>("root");
    Ok(Plan {
        columns: columns(m, &kinds, tree)?,
        kinds,
        task: m.get_one::<i32>("task").copied(),
        persistent: m.get_flag("persistent"),
        filter: filter.context("ns ls: --filter")?,
        inode: m.get_one::<u64>("namespace").copied(),
        tree,
        format,
        no_heading: m.get_flag("noheadings"),
        no_truncate: m.get_flag("notruncate"),
        no_wrap: m.get_flag("nowrap"),
        root: crate::proc::containers::state_root(root.map(PathBuf::as_path)),
    })
}

fn parse_tree(word: &str) -> Result<Tree> {
    Ok(match word {
        "" | "process" => Tree::Process,
        "parent" => Tree::Parent,
        "owner" => Tree::Owner,
        "container" => Tree::Container,
        _ => bail!("ns ls: --tree={word}: say process, parent, owner or container"),
    })
}

fn columns(m: &ArgMatches, kinds: &[NamespaceKind], tree: Option<Tree>) -> Result<Vec<Column>> {
    if m.get_flag("output-all") {
        return Ok(columns::ALL.to_vec());
    }
    let of_processes = m.get_one::<u64>("namespace").is_some();
    let mut usual = match of_processes {
        true => columns::OF_PROCESSES.to_vec(),
        false => columns::usual(kinds),
    };
    if matches!(tree, Some(Tree::Parent)) {
        usual.push(Column::Pns);
    }
    if matches!(tree, Some(Tree::Owner)) {
        usual.push(Column::Ons);
    }
    let Some(list) = text(m, "output") else {
        return Ok(usual);
    };
    let (mut columns, list) = match list.strip_prefix('+') {
        Some(list) => (usual, list.to_owned()),
        None => (Vec::new(), list),
    };
    for name in list.split(',') {
        let column = columns::by_name(name);
        columns.push(column.with_context(|| {
            format!("ns ls: --output {name}: no such column; `hullctl ns ls -H` shows them")
        })?);
    }
    Ok(columns)
}

impl Plan {
    /// Whether parents or owners are asked for.
    pub fn shows_relations(&self) -> bool {
        let columns = [Column::Pns, Column::Ons];
        columns.iter().any(|c| self.columns.contains(c))
            || matches!(self.tree, Some(Tree::Parent | Tree::Owner))
    }
}
