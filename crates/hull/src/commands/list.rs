//! `hull list`.

use clap::{ArgMatches, Command};
use runtime::Result;
use runtime::list::Summary;

use crate::Context;
use crate::context::print;
use crate::options::{command, given, is_on, switch};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("list", "List containers")
        .arg(super::format_option())
        .arg(switch("quiet", "Ids only").short('q'))
}

/// Prints them.
///
/// # Errors
/// The state root cannot be read.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let root = context.open_root()?;
    let summaries = match &root {
        Some(root) => {
            runtime::sweep::all(root, &mut |w| context.warn(w))?;
            runtime::list::list(root, &mut |w| context.warn(w))?
        }
        None => Vec::new(),
    };
    let text = if is_on(matches, "quiet") {
        summaries.iter().map(|s| format!("{}\n", s.id)).collect()
    } else if given(matches, "format") == Some("json") {
        // runc's list of nothing is a null.
        let list = Some(&summaries).filter(|s| !s.is_empty());
        super::compact(&list, "list")?
    } else {
        table(&summaries)
    };
    print(&text)?;
    Ok(0)
}

/// Columns as wide as their widest cell and three more, twelve at least.
fn table(summaries: &[Summary]) -> String {
    const HEAD: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let rows = summaries.iter().map(|s| {
        let pid = s.pid.to_string();
        let words = [&s.id, &pid, &s.status, &s.bundle, &s.created, &s.owner];
        words.map(|w| w.to_owned())
    });
    let rows: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(rows)
        .collect();
    let mut widths = [12; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (n, (cell, width)) in row.iter().zip(widths).enumerate() {
            let last = n + 1 == row.len();
            text.push_str(&if last {
                format!("{cell}\n")
            } else {
                format!("{cell:width$}")
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let summary = Summary {
            oci_version: "1.0.2".into(),
            id: "a-rather-long-id".into(),
            pid: 7,
            status: "running".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-24T04:05:06.000000789Z".into(),
            annotations: std::collections::BTreeMap::new(),
            owner: "root".into(),
        };
        let text = table(&[summary]);
        let want = "\
ID                 PID         STATUS      BUNDLE      CREATED                          OWNER
a-rather-long-id   7           running     /b          2026-11-24T04:05:06.000000789Z   root
";
        assert_eq!(text, want);
        assert_eq!(
            table(&[]),
            "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
        );
    }
}
