//! `ociVersion`: SemVer 2.0.0, major version 1.

use super::Warnings;
use crate::error::{At, Result};
use crate::oci;

/// Refuses what is not SemVer and what is not of our major version; a newer minor version is
/// compatible by the specification's own promise, but may ask for something unknown.
pub(super) fn check(version: &str, warnings: &mut Warnings) -> Result<()> {
    let at = At::top("ociVersion");
    if version.is_empty() {
        return Err(at.missing("required"));
    }
    let Some((major, minor)) = parse(version) else {
        return Err(at.invalid(version, "not a SemVer version (1.2.3)"));
    };
    if major != 1 {
        return Err(at.invalid(version, format!("hull implements version {}", oci::VERSION)));
    }
    if parse(oci::VERSION).is_some_and(|(_, ours)| minor > ours) {
        warnings.push(format!(
            "{at} {version:?}: newer than {}, properties that are not in it are ignored",
            oci::VERSION
        ));
    }
    Ok(())
}

/// Major and minor number.
fn parse(version: &str) -> Option<(u64, u64)> {
    let (rest, build) = match version.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (version, None),
    };
    let (core, pre) = match rest.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (rest, None),
    };
    let identifiers = build.into_iter().chain(pre).flat_map(|s| s.split('.'));
    if !identifiers.clone().all(is_identifier) {
        return None;
    }
    // Numbers of a pre-release have no leading zeros, those of a build may.
    if pre.is_some_and(|p| p.split('.').any(has_leading_zero)) {
        return None;
    }
    let mut numbers = core.split('.').map(number);
    let (major, minor, _patch) = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some((major, minor))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || has_leading_zero(text) {
        return None;
    }
    text.parse().ok()
}

fn has_leading_zero(text: &str) -> bool {
    text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semver_of_major_version_one() {
        for good in [
            "1.0.0",
            "1.0.0-rc5",
            "1.0.2-dev",
            "1.3.0",
            "1.3.0+dev",
            "1.0.0-rc.1+b-uild.007",
        ] {
            let mut warnings = Warnings::new();
            check(good, &mut warnings).unwrap();
            assert!(warnings.is_empty(), "{good}: {warnings:?}");
        }
        for bad in [
            "",
            "1",
            "1.0",
            "v1.0.0",
            "1.0.0.0",
            "01.0.0",
            "1.0.0-",
            "1.0.0-01",
            "1.0.0+",
            "1.0.x",
            "1.0.0-é",
            "1.-1.0",
            "0.9.0",
            "2.0.0",
            " 1.0.0",
            "1.0.99999999999999999999",
        ] {
            assert!(check(bad, &mut Warnings::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_newer_minor_version_is_accepted_with_a_warning() {
        let mut warnings = Warnings::new();
        check("1.99.0", &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }
}
