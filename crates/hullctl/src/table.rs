//! Tables for people and for scripts.

use std::fmt::Write as _;

/// Rows of text below a heading.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The cells; each row as long as the header.
    pub rows: Vec<Vec<String>>,
    /// Columns whose cells stand at the right, as numbers do.
    pub right: Vec<usize>,
    /// Cut lines to this width.
    pub width: Option<usize>,
    /// Without the heading.
    pub no_heading: bool,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Self {
            header: header.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// In columns, as wide as their widest cell.
    pub fn columns(&self) -> String {
        let heading = (!self.no_heading).then_some(&self.header);
        let lines: Vec<&Vec<String>> = heading.into_iter().chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|c| lines.iter().map(|row| width_of(row, c)).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in lines {
            let line = self.line(row, &widths);
            let line = match self.width {
                Some(width) => line.chars().take(width).collect(),
                None => line,
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(c, (cell, &width))| {
            if self.right.contains(&c) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join(" ")
    }

    /// One blank between cells; blanks in them are written as `\x20`, an empty one as nothing.
    pub fn raw(&self) -> String {
        let heading = (!self.no_heading).then_some(&self.header);
        let mut text = String::new();
        for row in heading.into_iter().chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|c| escaped(c)).collect();
            let _ = writeln!(text, "{}", cells.join(" "));
        }
        text
    }
}

fn width_of(row: &[String], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

fn escaped(cell: &str) -> String {
    cell.replace('\\', "\\x5c").replace(' ', "\\x20")
}

/// The width of the terminal that standard output is.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_raw() {
        let mut table = Table::new(["N", "NAME"]);
        table.row(["7", "a b"]);
        table.row(["10", ""]);
        table.right = vec![0];
        assert_eq!(table.columns(), " N NAME\n 7 a b\n10\n");
        assert_eq!(table.raw(), "N NAME\n7 a\\x20b\n10 \n");
        table.width = Some(4);
        table.no_heading = true;
        assert_eq!(table.columns(), " 7 a\n10\n");
    }
}
