//! `hull update`.

use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use clap::{ArgMatches, Command};
use runtime::{Error, Result};
use spec::oci::{BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};
use sys::Context as _;

use crate::Context;
use crate::options::{command, given, given_path, id, path, text};

/// The definition.
#[must_use]
pub fn define() -> Command {
    command("update", "Change the limits of a container")
        .arg(
            path(
                "resources",
                "FILE",
                "Read linux.resources from this file, - for standard input",
            )
            .short('r'),
        )
        .arg(text("blkio-weight", "N", "Block I/O weight, 10 to 1000"))
        .arg(text("cpu-period", "MICROSECONDS", "CFS period"))
        .arg(text("cpu-quota", "MICROSECONDS", "CFS quota"))
        .arg(text("cpu-burst", "MICROSECONDS", "CFS burst"))
        .arg(text("cpu-share", "N", "CPU shares"))
        .arg(text("cpu-rt-period", "MICROSECONDS", "Real-time period"))
        .arg(text("cpu-rt-runtime", "MICROSECONDS", "Real-time runtime"))
        .arg(text("cpuset-cpus", "LIST", "CPUs to use"))
        .arg(text("cpuset-mems", "LIST", "Memory nodes to use"))
        .arg(text("cpu-idle", "N", "SCHED_IDLE for the cgroup: 0 or 1"))
        .arg(text("memory", "BYTES", "Memory limit"))
        .arg(text("memory-reservation", "BYTES", "Memory reservation"))
        .arg(text(
            "memory-swap",
            "BYTES",
            "Limit of memory and swap together, -1 for none",
        ))
        .arg(text("kernel-memory", "BYTES", "Obsolete and without effect").hide(true))
        .arg(text("kernel-memory-tcp", "BYTES", "Obsolete and without effect").hide(true))
        .arg(text("pids-limit", "N", "Number of tasks, -1 for no limit"))
        .arg(text(
            "l3-cache-schema",
            "SCHEMA",
            "L3 cache schema of resctrl",
        ))
        .arg(text(
            "mem-bw-schema",
            "SCHEMA",
            "Memory bandwidth schema of resctrl",
        ))
        .arg(id())
}

/// Changes them.
///
/// # Errors
/// The container does not run, a value cannot be read, or the kernel refuses it.
pub fn run(context: &Context, matches: &ArgMatches) -> Result<u8> {
    let container = context.container(matches)?;
    let resources = match given_path(matches, "resources") {
        Some(file) => from_file(&file)?,
        None => from_options(matches)?,
    };
    for obsolete in ["kernel-memory", "kernel-memory-tcp"] {
        if given(matches, obsolete).is_some() {
            context.warn(&format!("--{obsolete} is obsolete and has no effect"));
        }
    }
    let text = |name| given(matches, name).unwrap_or_default().to_owned();
    let schemas = IntelRdt {
        l3_cache_schema: text("l3-cache-schema"),
        mem_bw_schema: text("mem-bw-schema"),
        ..IntelRdt::default()
    };
    runtime::update::update(&container, &resources, &schemas, &mut |w| context.warn(w))?;
    Ok(0)
}

/// The document in a file, or on standard input for `-`.
fn from_file(path: &Path) -> Result<Resources> {
    let limit = u64::try_from(spec::DOCUMENT_MAX).unwrap_or(u64::MAX);
    let limit = limit.saturating_add(1);
    let mut bytes = Vec::new();
    let args = || path.display().to_string();
    if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin
            .take(limit)
            .read_to_end(&mut bytes)
            .context("read", || "standard input")?;
    } else {
        let file = std::fs::File::open(path).context("open", args)?;
        file.take(limit)
            .read_to_end(&mut bytes)
            .context("read", args)?;
    }
    Ok(spec::parse_resources(&bytes)?)
}

/// The limits given as options.
fn from_options(matches: &ArgMatches) -> Result<Resources> {
    let weight = number(matches, "blkio-weight")?;
    let limit = number(matches, "pids-limit")?;
    let text = |name| given(matches, name).unwrap_or_default().to_owned();
    Ok(Resources {
        memory: Some(Memory {
            limit: size(matches, "memory")?,
            reservation: size(matches, "memory-reservation")?,
            swap: size(matches, "memory-swap")?,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: number(matches, "cpu-share")?,
            quota: number(matches, "cpu-quota")?,
            burst: number(matches, "cpu-burst")?,
            period: number(matches, "cpu-period")?,
            realtime_runtime: number(matches, "cpu-rt-runtime")?,
            realtime_period: number(matches, "cpu-rt-period")?,
            cpus: text("cpuset-cpus"),
            mems: text("cpuset-mems"),
            idle: number(matches, "cpu-idle")?,
        }),
        block_io: weight.map(|weight| BlockIo {
            weight: Some(weight),
            ..BlockIo::default()
        }),
        pids: limit.map(|limit| Pids { limit: Some(limit) }),
        ..Resources::default()
    })
}

fn number<T: FromStr>(matches: &ArgMatches, name: &'static str) -> Result<Option<T>> {
    let parse = |text: &str| {
        let bad = || Error::Invalid(format!("invalid value for {name}: {text:?}"));
        text.parse().map_err(|_| bad())
    };
    given(matches, name).map(parse).transpose()
}

fn size(matches: &ArgMatches, name: &'static str) -> Result<Option<i64>> {
    let parse = |text: &str| {
        let bad = || Error::Invalid(format!("invalid value for {name}: invalid size: {text:?}"));
        bytes(text).ok_or_else(bad)
    };
    given(matches, name).map(parse).transpose()
}

/// Bytes as docker's command line writes them: a number, maybe with a fraction, and `k`, `m`,
/// `g`, `t` or `p` for powers of 1024, maybe with `b` or `ib` behind; -1 is no limit.
fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit.strip_prefix(' ').unwrap_or(unit) {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let unit = 1_i64 << shift;
    let whole = whole.parse::<i64>().ok()?.checked_mul(unit)?;
    // As many digits as matter: 2^50 has 16.
    let digits: String = fraction.chars().take(16).collect();
    let scale = 10_i128.pow(u32::try_from(digits.len()).ok()?);
    let part = i128::from(digits.parse::<i64>().ok()?) * i128::from(unit) / scale;
    whole.checked_add(i64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> Result<Resources> {
        let words = ["update"]
            .into_iter()
            .chain(words.split_whitespace())
            .chain(["id"]);
        from_options(&define().try_get_matches_from(words).unwrap())
    }

    #[test]
    fn sizes_as_docker_writes_them() {
        let good = [
            ("0", 0),
            ("1024", 1024),
            ("512M", 512 << 20),
            ("1.5g", 3 << 29),
            ("2KiB", 2048),
            ("3 kb", 3072),
            ("1p", 1 << 50),
            ("-1", -1),
            ("0.5", 0),
        ];
        for (text, want) in good {
            assert_eq!(bytes(text), Some(want), "{text}");
        }
        for bad in [
            "", "-2", "abc", "1x", "1.2.3", ".", "9999999p", "1 2", "m", "+1",
        ] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn options_become_the_document() {
        let r =
            parsed("--memory 64M --memory-swap -1 --cpu-quota -1 --pids-limit 0 --cpuset-cpus 0-1")
                .unwrap();
        let memory = r.memory.unwrap();
        assert_eq!(
            (memory.limit, memory.swap, memory.reservation),
            (Some(64 << 20), Some(-1), None)
        );
        let cpu = r.cpu.unwrap();
        assert_eq!(
            (cpu.quota, cpu.period, cpu.cpus.as_str()),
            (Some(-1), None, "0-1")
        );
        assert_eq!(r.pids.unwrap().limit, Some(0));
        assert!(r.block_io.is_none());
    }

    #[test]
    fn nonsense_is_named() {
        for (words, want) in [
            (
                "--memory abc",
                "invalid value for memory: invalid size: \"abc\"",
            ),
            ("--pids-limit x", "invalid value for pids-limit: \"x\""),
            (
                "--blkio-weight 70000",
                "invalid value for blkio-weight: \"70000\"",
            ),
            ("--cpu-period -1", "invalid value for cpu-period: \"-1\""),
        ] {
            assert_eq!(parsed(words).unwrap_err().to_string(), want);
        }
    }
}
