//! From bytes to documents.
//!
//! The documents come from many producers, most of them written in Go, whose encoder writes
//! `null` for an empty slice, map or pointer. So `null` means "absent" for every field, as it
//! does to Go's decoder; [`lenient`] sees to that in one place. Everything else is strict: a
//! wrong JSON type is an error that names the field, the line and the column.

mod lenient;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::oci;

/// The largest document that is read. A config.json of a container with thousands of mounts
/// is below 1 MiB.
pub const DOCUMENT_MAX: usize = 16 << 20;

/// Parses a `config.json`.
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Json`]. The values are not judged here: see
/// [`crate::Plan::new`].
pub fn parse_config(bytes: &[u8]) -> Result<oci::Spec> {
    parse(bytes)
}

/// Parses a process document (`exec --process FILE`).
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Json`].
pub fn parse_process(bytes: &[u8]) -> Result<oci::Process> {
    parse(bytes)
}

/// Parses a resources document (`update --resources FILE`).
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Json`].
pub fn parse_resources(bytes: &[u8]) -> Result<oci::Resources> {
    parse(bytes)
}

fn parse<T: DeserializeOwned + Default>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > DOCUMENT_MAX {
        return Err(Error::TooLarge {
            size: bytes.len(),
            limit: DOCUMENT_MAX,
        });
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let trail = lenient::Trail::default();
    lenient::deserialize(&mut json, &trail)
        .and_then(|document| json.end().map(|()| document))
        .map_err(|e| json_error(&e, &trail))
}

fn json_error(e: &serde_json::Error, trail: &lenient::Trail) -> Error {
    let place = format!(" at line {} column {}", e.line(), e.column());
    let text = e.to_string();
    Error::Json {
        field: trail.path(),
        reason: cut(text.strip_suffix(&place).unwrap_or(&text)),
        line: e.line(),
        column: e.column(),
    }
}

/// A reason of bearable length: it may quote the value that is out of place.
fn cut(reason: &str) -> String {
    const MAX: usize = 200;
    match reason.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        parse_config(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn null_counts_as_absent_everywhere() {
        let spec = parse_config(
            br#"{
                "ociVersion": "1.2.0", "hostname": null, "mounts": null, "hooks": {"prestart": null},
                "annotations": null, "vm": null,
                "root": {"path": "rootfs", "readonly": null},
                "process": {
                    "args": ["sh", null], "user": {"uid": null, "umask": null, "additionalGids": null},
                    "capabilities": null, "rlimits": [null], "terminal": null, "oomScoreAdj": null
                },
                "linux": {
                    "sysctl": {"net.x": null}, "namespaces": [{"type": "pid", "path": null}],
                    "resources": {"memory": {"limit": null}, "cpu": null, "unified": null},
                    "timeOffsets": {"boottime": {"secs": null}}
                }
            }"#,
        )
        .unwrap();
        assert_eq!(spec.hostname, "");
        assert!(spec.mounts.is_empty() && spec.vm.is_none());
        let process = spec.process.unwrap();
        assert_eq!(process.args, ["sh", ""]);
        assert_eq!((process.user.uid, process.user.umask), (0, None));
        assert!(process.capabilities.is_none());
        assert_eq!(process.rlimits.len(), 1);
        let linux = spec.linux.unwrap();
        assert_eq!(linux.sysctl["net.x"], "");
        let resources = linux.resources.unwrap();
        assert!(resources.cpu.is_none());
        assert_eq!(resources.memory.unwrap().limit, None);
        assert_eq!(linux.time_offsets["boottime"].secs, 0);
    }

    #[test]
    fn null_alone_is_an_empty_document() {
        assert_eq!(parse_config(b"null").unwrap().oci_version, "");
    }

    #[test]
    fn errors_name_field_line_and_column() {
        assert_eq!(
            message("{\"process\": {\n  \"user\": {\"uid\": \"0\"}}}"),
            "process.user.uid: invalid type: string \"0\", expected u32 at line 2, column 21"
        );
        assert_eq!(
            message(r#"{"linux": {"namespaces": [{"type": "pid"}, 5]}}"#),
            "linux.namespaces[1]: invalid type: integer `5`, expected struct Namespace at line 1, column 44"
        );
        assert_eq!(
            message(r#"{"annotations": {"a b": 1}}"#),
            "annotations[\"a b\"]: invalid type: integer `1`, expected a string at line 1, column 25"
        );
        assert_eq!(
            message(r#"{"process": {"user": {"uid": -1}}}"#),
            "process.user.uid: invalid value: integer `-1`, expected u32 at line 1, column 31"
        );
        assert!(message("{\"a\": 1,}").starts_with("trailing comma at line 1"));
        assert!(message("").starts_with("EOF while parsing a value at line 1, column 0"));
        assert!(message("{} x").starts_with("trailing characters"));
        assert!(message(r#"{"hostname": "a", "hostname": "b"}"#).contains("duplicate field"));
    }

    #[test]
    fn unknown_properties_are_ignored() {
        let spec = parse_config(br#"{"ociVersion": "1.0.0", "zos": {"x": [1, {"y": null}]}}"#);
        assert_eq!(spec.unwrap().oci_version, "1.0.0");
    }

    #[test]
    fn depth_and_size_have_limits() {
        let deep = format!("{{\"vm\": {}1{}}}", "[".repeat(500), "]".repeat(500));
        assert!(message(&deep).contains("recursion limit exceeded"));
        let big = vec![b' '; DOCUMENT_MAX + 1];
        assert!(matches!(
            parse_config(&big),
            Err(Error::TooLarge {
                limit: DOCUMENT_MAX,
                ..
            })
        ));
    }
}
