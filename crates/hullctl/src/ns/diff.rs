//! `hullctl ns diff`: what keeps two processes apart.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde::Serialize;

use super::args::flag;
use super::kinds::{KINDS, inode_of};
use crate::proc;

/// The definition.
pub fn command() -> Command {
    Command::new("diff")
        .about("Show which namespaces, mounts, capabilities and control groups differ")
        .after_help(
            "Examples:\n  hullctl ns diff 1 4711\n      what is different for process 4711; exit code 0 if nothing is, 1 if something is\n  hullctl ns diff 1 4711 --json | jq .capabilities",
        )
        .arg(pid("first", "PID1"))
        .arg(pid("second", "PID2"))
        .arg(flag("json", "As JSON"))
        .arg(flag("same", "Also what is the same"))
}

fn pid(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name)
        .required(true)
        .value_name(value)
        .value_parser(value_parser!(i32).range(1..))
        .help("A process")
}

/// One point of comparison.
#[derive(Debug, Serialize)]
struct Point {
    what: String,
    first: String,
    second: String,
}

/// All points, by subject.
#[derive(Debug, Default, Serialize)]
struct Difference {
    namespaces: Vec<Point>,
    mounts: Vec<Point>,
    capabilities: Vec<Point>,
    cgroups: Vec<Point>,
    process: Vec<Point>,
}

/// Prints the differences; exit code 1 if there are any.
pub fn run(m: &ArgMatches) -> Result<ExitCode> {
    let given = |name: &str| m.get_one::<i32>(name).copied().unwrap_or_default();
    let (first, second) = (given("first"), given("second"));
    for pid in [first, second] {
        if proc::status(pid).is_empty() {
            bail!("ns diff: there is no process {pid}");
        }
    }
    let difference = Difference {
        namespaces: namespaces(first, second),
        mounts: mounts(first, second)?,
        capabilities: capabilities(first, second),
        cgroups: cgroups(first, second)?,
        process: process(first, second),
    };
    let all = m.get_flag("same");
    let difference = if all {
        difference
    } else {
        difference.without_equal()
    };
    if m.get_flag("json") {
        println!("{}", serde_json::to_string_pretty(&difference)?);
    } else {
        difference.print(first, second);
    }
    Ok(ExitCode::from(u8::from(difference.any())))
}

impl Difference {
    fn sections(&self) -> [(&'static str, &Vec<Point>); 5] {
        [
            ("namespaces", &self.namespaces),
            ("mounts", &self.mounts),
            ("capabilities", &self.capabilities),
            ("control groups", &self.cgroups),
            ("process", &self.process),
        ]
    }

    fn without_equal(mut self) -> Self {
        for points in [
            &mut self.namespaces,
            &mut self.mounts,
            &mut self.capabilities,
            &mut self.cgroups,
            &mut self.process,
        ] {
            points.retain(Point::differs);
        }
        self
    }

    fn any(&self) -> bool {
        let mut sections = self.sections().into_iter();
        sections.any(|(_, points)| points.iter().any(Point::differs))
    }

    fn print(&self, first: i32, second: i32) {
        println!("< {first} {}", proc::command_line(first));
        println!("> {second} {}", proc::command_line(second));
        for (title, points) in self.sections() {
            if points.is_empty() {
                println!("{title}: the same");
                continue;
            }
            println!("{title}:");
            for p in points {
                if p.differs() {
                    println!("  {}", p.what);
                    println!("    < {}", p.first);
                    println!("    > {}", p.second);
                } else {
                    println!("  {} = {}", p.what, p.first);
                }
            }
        }
    }
}

impl Point {
    fn new(what: impl Into<String>, first: impl Into<String>, second: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            first: first.into(),
            second: second.into(),
        }
    }

    fn differs(&self) -> bool {
        self.first != self.second
    }
}

fn namespaces(first: i32, second: i32) -> Vec<Point> {
    let text = |pid, kind| match inode_of(pid, kind) {
        Some(inode) => inode.to_string(),
        None => "out of sight".to_owned(),
    };
    let point = |k: &super::kinds::Kind| {
        let what = format!("{} ({})", k.kind.proc_name(), k.keeps);
        Point::new(what, text(first, k.kind), text(second, k.kind))
    };
    KINDS.iter().map(point).collect()
}

/// File system, source and options by mount point.
fn mounts_of(pid: i32) -> Result<BTreeMap<String, String>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read({path})"))?;
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point, options) = (fields.next()?, fields.next()?, fields.next()?);
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next()?);
        Some((
            point.to_owned(),
            format!("{kind} {source}[{root}] {options}"),
        ))
    };
    Ok(text.lines().filter_map(parse).collect())
}

fn mounts(first: i32, second: i32) -> Result<Vec<Point>> {
    let (a, b) = (mounts_of(first)?, mounts_of(second)?);
    Ok(by_key(&a, &b, "not mounted"))
}

fn by_key(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>, missing: &str) -> Vec<Point> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let text = |map: &BTreeMap<String, String>, key: &String| {
        map.get(key).cloned().unwrap_or_else(|| missing.to_owned())
    };
    let point = |key: &String| Point::new(key.clone(), text(a, key), text(b, key));
    keys.into_iter().map(point).collect()
}

fn capabilities(first: i32, second: i32) -> Vec<Point> {
    let (a, b) = (proc::status(first), proc::status(second));
    let sets = [
        ("effective", "CapEff"),
        ("permitted", "CapPrm"),
        ("bounding", "CapBnd"),
        ("inheritable", "CapInh"),
        ("ambient", "CapAmb"),
    ];
    let mask = |status: &str, field: &str| {
        let text = proc::status_field(status, field).unwrap_or_default();
        u64::from_str_radix(&text, 16).unwrap_or(0)
    };
    let point = |(name, field): (&str, &str)| {
        let (a, b) = (mask(&a, field), mask(&b, field));
        let common = a & b;
        let words = |mask: u64| names(mask, mask & !common);
        Point::new(name, words(a), words(b))
    };
    sets.into_iter().map(point).collect()
}

/// How many, and those that the other one lacks.
fn names(mask: u64, more: u64) -> String {
    let count = mask.count_ones();
    if more == 0 {
        return format!("{count}");
    }
    let names = runtime::identity::cap_names(more);
    format!("{count}, among them alone {}", names.join(" "))
}

fn cgroups(first: i32, second: i32) -> Result<Vec<Point>> {
    let map = |pid| -> Result<BTreeMap<String, String>> {
        let groups = proc::cgroups::of(pid)?.into_iter();
        Ok(groups.map(|g| (title(&g.controllers), g.path)).collect())
    };
    Ok(by_key(&map(first)?, &map(second)?, "none"))
}

fn title(controllers: &str) -> String {
    if controllers.is_empty() {
        "unified".to_owned()
    } else {
        controllers.to_owned()
    }
}

fn process(first: i32, second: i32) -> Vec<Point> {
    let (a, b) = (proc::status(first), proc::status(second));
    let fields = [
        ("user ids (real, effective, saved, file system)", "Uid"),
        ("group ids", "Gid"),
        ("supplementary groups", "Groups"),
        ("no new privileges", "NoNewPrivs"),
        ("seccomp (0 none, 1 strict, 2 filter)", "Seccomp"),
        ("seccomp filters", "Seccomp_filters"),
        ("processors allowed", "Cpus_allowed_list"),
    ];
    let field = |status: &str, name: &str| {
        let text = proc::status_field(status, name).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut points: Vec<Point> = fields
        .into_iter()
        .map(|(what, name)| Point::new(what, field(&a, name), field(&b, name)))
        .collect();
    for (what, link) in [("root directory", "root"), ("working directory", "cwd")] {
        let read = |pid| {
            let found = std::fs::read_link(format!("/proc/{pid}/{link}"));
            found.map_or_else(|_| "out of sight".to_owned(), |p| p.display().to_string())
        };
        points.push(Point::new(what, read(first), read(second)));
    }
    points
}
