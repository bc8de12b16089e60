//! `hull events`.

use std::time::Duration;

use clap::{ArgMatches, Command};
use runtime::events::{Event, follow, stats};
use runtime::{Error, Result};

use crate::Context;
use crate::context::print;
use crate::options::{command, given, id, is_on, switch, text};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command(
        "events",
        "Show a container's events and statistics as lines of JSON",
    )
    .arg(switch("stats", "Show statistics once and end"))
    .arg(text("interval", "DURATION", "Time between statistics").default_value("5s"))
    .arg(id())
}

/// Prints them.
///
/// # Errors
/// The container does not run, or its figures cannot be read.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let container = context.container(matches)?;
    let mut report = |event: Event| print(&super::compact(&event, "event")?);
    if is_on(matches, "stats") {
        report(stats(&container)?)?;
    } else {
        let interval = duration(given(matches, "interval").unwrap_or("5s"))?;
        follow(&container, interval, &mut report, &mut |w| context.warn(w))?;
    }
    Ok(0)
}

/// A duration as Go writes it: numbers with units (`1m30s`, `1.5h`, `250ms`).
fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::Invalid(format!("invalid duration {text:?}"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, tail) = rest.split_at(end);
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(bad())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        let good = [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
        ];
        for (text, millis) in good {
            assert_eq!(
                duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for bad in ["", "5", "s", "5x", "-1s", "1..s", "1e9h", "5 s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
