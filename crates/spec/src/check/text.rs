//! Strings and paths.

use std::path::{Component, Path, PathBuf};

use crate::error::{At, Result};

/// Text that goes to the kernel or to a program: no NUL, which would cut it short.
pub(super) fn no_nul<'t>(text: &'t str, at: &At) -> Result<&'t str> {
    if text.contains('\0') {
        return Err(at.invalid(text, "must not contain a NUL byte"));
    }
    Ok(text)
}

/// Text that must be there.
pub(super) fn required<'t>(text: &'t str, at: &At) -> Result<&'t str> {
    if text.is_empty() {
        return Err(at.missing("required"));
    }
    no_nul(text, at)
}

/// Text that is written to a file of the kernel as one line: no control characters.
pub(super) fn line<'t>(text: &'t str, at: &At) -> Result<&'t str> {
    if text.chars().any(char::is_control) {
        return Err(at.invalid(text, "must not contain control characters"));
    }
    Ok(text)
}

/// As [`line`]; empty text is absent.
pub(super) fn optional_line(text: &str, at: &At) -> Result<Option<String>> {
    line(text, at)?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// An absolute path, left as it is.
pub(super) fn absolute<'t>(path: &'t str, at: &At) -> Result<&'t str> {
    required(path, at)?;
    if !path.starts_with('/') {
        return Err(at.invalid(path, "must be an absolute path"));
    }
    Ok(path)
}

/// An absolute path inside the container, cleaned.
pub(super) fn container_path(path: &str, at: &At) -> Result<PathBuf> {
    absolute(path, at).map(clean)
}

/// Removes `.`, `..` and doubled slashes by the text alone. The result is absolute; `..` never
/// leads above `/`, and what is relative is relative to `/`.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cleaning_by_table() {
        for (path, want) in [
            ("/", "/"),
            ("", "/"),
            ("dev/pts", "/dev/pts"),
            ("//a///b/./c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("../../..", "/"),
            ("/proc/../sys", "/sys"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(clean(path), Path::new(want), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn cleaned_paths_are_absolute_stable_and_without_dots(path in "[a./]{0,40}") {
            let once = clean(&path);
            prop_assert!(once.is_absolute());
            prop_assert_eq!(clean(once.to_str().unwrap()), once.clone());
            prop_assert!(!once.components().any(|c| matches!(c, Component::ParentDir | Component::CurDir)));
        }

        #[test]
        fn a_path_without_dots_keeps_its_names(names in prop::collection::vec("[a-z]{1,5}", 0..8)) {
            let path = clean(&names.join("//"));
            prop_assert_eq!(path, Path::new("/").join(names.join("/")));
        }
    }
}
