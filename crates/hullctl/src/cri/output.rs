//! Forms of output: tables, JSON, YAML, templates, and how people read times and sizes.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

use crate::template::Template;

/// A table's columns are at least this wide, and this far apart.
const WIDTH: usize = 20;
const GAP: usize = 3;
/// Of an id in a table.
const SHORT_ID: usize = 13;

/// Rows of cells under a head.
#[derive(Debug, Default)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    /// With these column names.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Table(vec![head.into_iter().map(Into::into).collect()])
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| {
                let cells = self.0.iter().filter_map(|row| row.get(i));
                let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                (widest + GAP).max(WIDTH)
            })
            .collect();
        let mut out = String::new();
        for row in &self.0 {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}"));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    /// Prints it.
    pub fn print(&self) -> Result<()> {
        print(&self.text())
    }
}

/// Prints text; a reader that has gone away ends the program quietly, as with any pipe.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|e| anyhow!("write the output: {e}")),
    }
}

/// Prints a line.
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a document as JSON, YAML or by a template.
pub fn document(value: &Value, format: &str, template: Option<&str>) -> Result<()> {
    match format {
        "json" => line(&serde_json::to_string_pretty(value)?),
        "yaml" => print(&yaml(value)?),
        "go-template" => {
            let Some(template) = template else {
                bail!("-o go-template needs --template TEXT");
            };
            line(&Template::parse(template)?.render(value)?)
        }
        other => bail!("-o {other}: there are json, yaml, go-template and table"),
    }
}

/// A document as YAML.
pub fn yaml(value: &Value) -> Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(|e| anyhow!("write YAML: {e}"))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Any text as one line.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// The beginning of an id, as tables have it.
pub fn short(id: &str) -> String {
    id.trim_start_matches("sha256:")
        .chars()
        .take(SHORT_ID)
        .collect()
}

/// Nanoseconds since 1970 now.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// How long ago a time in nanoseconds was.
pub fn ago(nanos: i64) -> String {
    format!("{} ago", human_duration((now() - nanos) / 1_000_000_000))
}

/// Seconds, as people say them.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ => match hours {
            ..2 => "About an hour".to_owned(),
            2..48 => format!("{hours} hours"),
            48..336 => format!("{} days", hours / 24),
            336..1440 => format!("{} weeks", hours / 168),
            1440..17_520 => format!("{} months", hours / 720),
            _ => format!("{} years", hours / 8760),
        },
    }
}

/// Bytes with a decimal unit and so many significant digits.
pub fn human_size(bytes: u64, digits: usize) -> String {
    // Exact enough for three or four digits.
    #[allow(clippy::cast_precision_loss)]
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    format!("{}{unit}", significant(value, digits))
}

/// A number from 0 up with so many significant digits, without zeros at the end.
pub fn significant(value: f64, digits: usize) -> String {
    let before = match value {
        v if v >= 1000.0 => 4,
        v if v >= 100.0 => 3,
        v if v >= 10.0 => 2,
        _ => 1,
    };
    let text = format!("{value:.*}", digits.saturating_sub(before));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A time in nanoseconds since 1970 by RFC 3339, in UTC.
pub fn rfc3339(nanos: i64) -> String {
    let (seconds, rest) = (
        nanos.div_euclid(1_000_000_000),
        nanos.rem_euclid(1_000_000_000),
    );
    let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let fraction = format!("{rest:09}");
    let fraction = match fraction.trim_end_matches('0') {
        "" => String::new(),
        digits => format!(".{digits}"),
    };
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z",
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}

/// Year, month and day of a day counted from 1970. Years begin in March here, so that the leap
/// day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Nanoseconds since 1970 of a time by RFC 3339.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let rest = text.get(19..)?;
    let zone = rest.find(['Z', '+', '-'])?;
    let digits = rest[..zone].trim_start_matches('.');
    let fraction: i64 = format!("{digits:0<9}").get(..9)?.parse().ok()?;
    let offset = match &rest[zone..] {
        "Z" => 0,
        signed => {
            let part = |range: std::ops::Range<usize>| signed.get(range)?.parse::<i64>().ok();
            let minutes = part(1..3)? * 60 + part(4..6)?;
            if signed.starts_with('-') {
                -minutes
            } else {
                minutes
            }
        }
    };
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset * 60;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Labels or annotations under their name, as the long forms show them.
pub fn pairs(name: &str, pairs: &BTreeMap<String, String>) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let lines: String = pairs
        .iter()
        .map(|(key, value)| format!("\t{key} -> {value}\n"))
        .collect();
    format!("{name}:\n{lines}")
}

/// What runtimes add to a status: JSON where it is, text else.
pub fn info(info: &BTreeMap<String, String>) -> impl Iterator<Item = (String, Value)> {
    info.iter().map(|(key, text)| {
        let value = match text.starts_with(['{', '[']) {
            true => serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()),
            false => text.trim_matches('"').into(),
        };
        (key.clone(), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let mut table = Table::new(["CONTAINER", "STATE"]);
        table.row(vec!["a".repeat(25), "Running".to_owned()]);
        let expected = format!("{:<28}STATE\n{:<28}Running\n", "CONTAINER", "a".repeat(25));
        assert_eq!(table.text(), expected);
    }

    #[test]
    fn durations_and_sizes() {
        let durations = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86_400 * 3, "3 days"),
            (86_400 * 20, "2 weeks"),
            (86_400 * 90, "3 months"),
            (86_400 * 1000, "2 years"),
        ];
        for (seconds, text) in durations {
            assert_eq!(human_duration(seconds), text);
        }
        let sizes = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_240_000, "1.24MB"),
            (742_093, "742kB"),
            (5_000_000_000, "5GB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(human_size(bytes, 3), text);
        }
    }

    #[test]
    fn times() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (1_709_208_000_000_000_000, "2024-02-29T12:00:00Z"),
            (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ];
        for (nanos, text) in table {
            assert_eq!(rfc3339(nanos), text);
            assert_eq!(parse_rfc3339(text), Some(nanos));
        }
        assert_eq!(
            parse_rfc3339("1970-01-01T01:30:00.5+01:30"),
            Some(500_000_000)
        );
        assert_eq!(parse_rfc3339("yesterday"), None);
    }
}
