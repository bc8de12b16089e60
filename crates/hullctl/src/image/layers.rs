//! How layers are written, and when: options that several commands share.

use clap::{ArgMatches, Command, value_parser};
use image::copy::{Compression, Format, Layers};

use super::options::{flag, option, text};

/// Adds the options that say how layers are compressed.
pub fn with_compression(command: Command) -> Command {
    command
        .arg(
            option("dest-compress-format", "KIND", "Compress all layers so")
                .value_parser(["gzip", "zstd"])
                .alias("compression-format"),
        )
        .arg(
            option("dest-compress-level", "N", "Level of the compression")
                .value_parser(value_parser!(i32))
                .alias("compression-level"),
        )
        .arg(
            flag("dest-compress", "Compress layers that are not").conflicts_with("dest-decompress"),
        )
        .arg(
            flag("dest-decompress", "Write layers without compression")
                .conflicts_with("dest-compress-format"),
        )
        .arg(flag(
            "dest-oci-accept-uncompressed-layers",
            "Leave layers that are not compressed so",
        ))
}

/// How layers are compressed.
pub fn layers(m: &ArgMatches) -> Layers {
    let level = m.get_one::<i32>("dest-compress-level").copied();
    match text(m, "dest-compress-format").as_deref() {
        Some("zstd") => return Layers::Compressed(Compression::Zstd, level),
        Some(_) => return Layers::Compressed(Compression::Gzip, level),
        None => {}
    }
    if m.get_flag("dest-decompress") {
        Layers::Uncompressed
    } else if m.get_flag("dest-compress") {
        Layers::Compressed(Compression::Gzip, level)
    } else if m.get_flag("dest-oci-accept-uncompressed-layers") {
        Layers::AsTheyAre
    } else {
        Layers::Usual
    }
}

/// `--format oci|v2s2`.
pub fn format(m: &ArgMatches) -> Option<Format> {
    text(m, "format").map(|f| {
        if f == "oci" {
            Format::Oci
        } else {
            Format::Docker
        }
    })
}

/// Now, or what `$SOURCE_DATE_EPOCH` says, as RFC 3339.
pub fn created_now() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|t| t.parse::<i64>().ok());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(0));
    rfc3339(given.unwrap_or(now))
}

/// Seconds since 1970 → `2026-11-25T18:00:00Z`.
fn rfc3339(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil calendar by eras of 400 years that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (784_111_777, "1994-11-06T08:49:37Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
