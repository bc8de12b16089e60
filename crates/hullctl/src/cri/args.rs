//! Pieces of command lines that many commands share.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, value_parser};

/// A flag.
pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

/// An option with a value.
pub fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// An option that may be given many times.
pub fn options(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).action(ArgAction::Append)
}

/// An option with a number.
pub fn number(name: &'static str, help: &'static str) -> Arg {
    option(name, "N", help)
        .value_parser(value_parser!(i64))
        .allow_negative_numbers(true)
}

/// An option with a duration like `2s` or `1m30s`.
pub fn duration(name: &'static str, help: &'static str) -> Arg {
    option(name, "DURATION", help).value_parser(parse_duration)
}

/// `-o`, with these formats.
pub fn output(formats: &'static [&'static str]) -> Arg {
    option("output", "FORMAT", "Form of the output")
        .short('o')
        .value_parser(clap::builder::PossibleValuesParser::new(formats))
}

/// `--template`.
pub fn template() -> Arg {
    option("template", "TEXT", "Go template, for -o go-template")
}

/// Ids, one at least if `required`.
pub fn ids(value: &'static str, required: bool) -> Arg {
    Arg::new("ids")
        .value_name(value)
        .num_args(0..)
        .required(required)
        .help("Ids, or their beginnings where the runtime takes those")
}

/// The options by which containers are chosen.
pub fn container_filters() -> [Arg; 8] {
    [
        option("name", "REGEX", "Only names that match"),
        option("pod", "ID", "Only containers of this pod").short('p'),
        option("image", "IMAGE", "Only containers of this image"),
        option(
            "state",
            "STATE",
            "Only in this state: created, running, exited, unknown",
        )
        .short('s'),
        options("label", "KEY=VALUE", "Only with this label"),
        flag("latest", "Only the newest, whatever its state").short('l'),
        number("last", "Only the N newest, whatever their state; 0 is all").short('n'),
        option("namespace", "REGEX", "Only pods whose namespace matches"),
    ]
}

/// The options that check and identify streaming over TLS.
pub fn tls() -> [Arg; 4] {
    [
        option(
            "tls-sni",
            "NAME",
            "Name in the streaming server's certificate",
        )
        .alias("tls-server-name")
        .default_value("localhost"),
        option(
            "tls-ca",
            "FILE",
            "Certificates to trust, PEM; else any is taken",
        ),
        option("tls-cert", "FILE", "Certificate to show, PEM"),
        option("tls-key", "FILE", "Its key, PEM"),
    ]
}

/// `--transport`.
pub fn transport() -> Arg {
    option("transport", "NAME", "spdy or websocket")
        .short('r')
        .default_value("spdy")
        .value_parser(["spdy", "websocket"])
}

/// A text.
pub fn text(m: &ArgMatches, name: &str) -> Option<String> {
    m.get_one::<String>(name).cloned()
}

/// All texts of an option or argument.
pub fn texts(m: &ArgMatches, name: &str) -> Vec<String> {
    m.get_many::<String>(name)
        .unwrap_or_default()
        .cloned()
        .collect()
}

/// A number.
pub fn integer(m: &ArgMatches, name: &str) -> Option<i64> {
    m.get_one::<i64>(name).copied()
}

/// A duration that is not zero.
pub fn time(m: &ArgMatches, name: &str) -> Option<Duration> {
    let time = m.get_one::<Duration>(name).copied();
    time.filter(|t| !t.is_zero())
}

/// Labels as a map.
pub fn labels(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                out.insert(key.to_owned(), value.to_owned());
            }
            _ => bail!("{text}: no value; write KEY=VALUE"),
        }
    }
    Ok(out)
}

/// Go's notation of durations; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("{text}: no duration; write 300ms, 2s, 1m30s or 1h");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| wrong());
    }
    let mut total = 0.0;
    let mut rest = text.trim_start_matches('-');
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = unit.split_at(end.unwrap_or(unit.len()));
        total += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = after;
    }
    // Below zero means what zero means to every option here.
    if text.starts_with('-') {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations() {
        let table = [
            ("2s", 2000),
            ("1m30s", 90_000),
            ("300ms", 300),
            ("1.5h", 5_400_000),
            ("7", 7000),
            ("0", 0),
            ("-1s", 0),
        ];
        for (text, millis) in table {
            assert_eq!(
                parse_duration(text).expect(text).as_millis(),
                millis,
                "{text}"
            );
        }
        for text in ["", "s", "2x", "1m30", "-"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
