//! Printing.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::args::{Format, Plan};
use super::collect::{Collected, Namespace};
use super::columns::Column;
use super::tree::Row;
use crate::table::{Table, terminal_width};

/// Prints text that ends with a newline.
pub fn print(text: &str) {
    print!("{text}");
}

/// The namespaces, as the plan wants them.
pub fn namespaces(plan: &Plan, all: &Collected, rows: &[Row<'_>]) -> Result<()> {
    rows_of(plan, all, rows, "namespaces")
}

fn rows_of(plan: &Plan, all: &Collected, rows: &[Row<'_>], what: &str) -> Result<()> {
    if plan.format == Format::Json {
        let list: Vec<Value> = rows.iter().map(|row| object(plan, all, row)).collect();
        let text = serde_json::to_string_pretty(&json!({ what: list }))?;
        println!("{text}");
        return Ok(());
    }
    let mut columns = plan.columns.clone();
    // Nobody wants to see that there are no containers.
    let usual = plan.columns.len() > 1;
    if usual && all.container_of.is_empty() {
        columns.retain(|c| *c != Column::Container);
    }
    let mut table = Table::new(columns.iter().map(|c| c.heading().0));
    let right = |(at, column): (usize, &Column)| column.is_number().then_some(at);
    table.right = columns.iter().enumerate().filter_map(right).collect();
    // The branches stand before the last column that is a name.
    let branch_at = columns.iter().rposition(|c| !c.is_number()).unwrap_or(0);
    for row in rows {
        let cells: Vec<Vec<String>> = columns
            .iter()
            .map(|c| cell_lines(*c, row, all, plan.no_wrap))
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        for line in 0..height {
            let cell = |(at, lines): (usize, &Vec<String>)| {
                let text = lines.get(line).cloned().unwrap_or_default();
                if at == branch_at && line == 0 {
                    format!("{}{text}", row.branch)
                } else {
                    text
                }
            };
            table.row(cells.iter().enumerate().map(cell));
        }
    }
    finish(plan, table);
    Ok(())
}

fn cell_lines(column: Column, row: &Row<'_>, all: &Collected, one_line: bool) -> Vec<String> {
    let text = column.text_of(row.namespace, row.process, all);
    let text = text.unwrap_or_default();
    if one_line {
        return vec![text.replace('\n', ",")];
    }
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    lines
}

fn finish(plan: &Plan, mut table: Table) {
    table.no_heading = plan.no_heading;
    if plan.format == Format::Raw {
        print(&table.raw());
        return;
    }
    table.width = terminal_width().filter(|_| !plan.no_truncate);
    print(&table.columns());
}

fn object(plan: &Plan, all: &Collected, row: &Row<'_>) -> Value {
    let mut object = Map::new();
    for column in &plan.columns {
        let text = column.text_of(row.namespace, row.process, all);
        let value = match text {
            None => Value::Null,
            Some(text) if column.is_number() => {
                text.parse::<u64>().map_or(Value::Null, Value::from)
            }
            Some(text) => Value::from(text),
        };
        object.insert(column.heading().0.to_ascii_lowercase(), value);
    }
    Value::Object(object)
}

/// The processes of one namespace.
pub fn processes(plan: &Plan, all: &Collected, inode: u64) -> Result<()> {
    let namespace = all.by_inode(inode);
    let namespace = namespace.with_context(|| {
        format!("ns ls: {inode}: no such namespace; give a number of the column NS")
    })?;
    let row = |pid: &i32| Row {
        namespace,
        process: Some(*pid),
        branch: String::new(),
    };
    let there = |pid: &&i32| all.processes.contains_key(pid);
    let rows: Vec<Row<'_>> = namespace.pids.iter().filter(there).map(row).collect();
    rows_of(plan, all, &rows, "processes")
}

/// A paragraph for the machine and one for each container: what is its own, what is shared with
/// whom.
pub fn by_container(all: &Collected, shown: &[&Namespace]) -> String {
    // The first process that lets itself be looked at: on most machines init, else a kernel thread.
    let machine = shown.iter().filter_map(|n| n.pids.first().copied()).min();
    let machine_name = "the machine".to_owned();
    let mut members: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for n in shown {
        let mut names = Vec::new();
        if machine.is_some_and(|pid| n.pids.contains(&pid)) {
            names.push(machine_name.as_str());
        }
        names.extend(all.containers.iter().filter_map(|k| {
            let inside = k.pids.first().is_some_and(|pid| n.pids.contains(pid));
            inside.then_some(k.name.as_str())
        }));
        members.insert(n.inode, names);
    }
    let mut text = String::new();
    let mut paragraph = |name: &str, note: &str, first: Option<i32>| {
        text.push_str(&format!("{name}{note}\n"));
        let own: Vec<&&Namespace> = shown
            .iter()
            .filter(|n| first.is_some_and(|pid| n.pids.contains(&pid)))
            .collect();
        for (at, n) in own.iter().enumerate() {
            let branch = if at + 1 == own.len() {
                "└─"
            } else {
                "├─"
            };
            let others: Vec<&str> = members
                .get(&n.inode)
                .map(|names| names.iter().copied().filter(|m| *m != name).collect())
                .unwrap_or_default();
            let shared = if others.is_empty() {
                "own".to_owned()
            } else {
                format!("shared with {}", others.join(", "))
            };
            text.push_str(&format!(
                "{branch}{:<6} {:<10} {shared}\n",
                n.kind.proc_name(),
                n.inode
            ));
        }
    };
    paragraph(&machine_name, "", machine);
    for k in &all.containers {
        let note = format!(" ({} processes)", k.pids.len());
        paragraph(&k.name, &note, k.pids.first().copied());
    }
    text
}
