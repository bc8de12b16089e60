//! Names of units: `slice:prefix:name` and what becomes of it. Pure.

use crate::error::{Error, Result};

/// Where a container's scope goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct UnitName {
    /// `a-b.slice`.
    pub(crate) slice: String,
    /// `prefix-name.scope`.
    pub(crate) unit: String,
}

impl UnitName {
    /// Checks `cgroupsPath`; without one, the unit is `hull-ID.scope` in the default slice.
    pub(crate) fn parse(path: Option<&str>, id: &str, user: bool) -> Result<Self> {
        let given = path.unwrap_or_default();
        let refuse = |reason| Error::Path {
            path: given.to_owned(),
            reason,
        };
        let default = if user { "user.slice" } else { "system.slice" };
        let parts: Vec<&str> = given.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "hull", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(refuse(
                    "not of the form slice:prefix:name, which the systemd driver needs",
                ));
            }
        };
        if name.is_empty() {
            return Err(refuse("the name is empty"));
        }
        if name.ends_with(".slice") {
            return Err(refuse("a container cannot be a slice"));
        }
        let unit = if prefix.is_empty() {
            format!("{name}.scope")
        } else {
            format!("{prefix}-{name}.scope")
        };
        if unit.len() > 255 || !unit.bytes().all(is_unit_byte) {
            return Err(refuse("not a unit's name (systemd.unit(5))"));
        }
        let slice = if slice.is_empty() { default } else { slice };
        expand(slice).ok_or_else(|| refuse("not a slice's name"))?;
        Ok(Self {
            slice: slice.to_owned(),
            unit,
        })
    }

    /// The unit's control group below its manager's.
    pub(crate) fn path(&self) -> String {
        let slice = expand(&self.slice).unwrap_or_default();
        format!("{slice}{}", self.unit)
    }
}

/// Characters of unit names (systemd.unit(5)).
fn is_unit_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b)
}

/// The directories of a slice, which nests at each dash (systemd.slice(5)): `a-b.slice` is
/// `a.slice/a-b.slice/`. `-.slice` is the top. `None`: not a slice's name.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() || !part.bytes().all(is_unit_byte) {
            return None;
        }
        if !prefix.is_empty() {
            prefix.push('-');
        }
        prefix.push_str(part);
        path.push_str(&prefix);
        path.push_str(".slice/");
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let table = [
            (None, false, "system.slice", "system.slice/hull-c1.scope"),
            (Some(""), true, "user.slice", "user.slice/hull-c1.scope"),
            (
                Some(":p:n"),
                false,
                "system.slice",
                "system.slice/p-n.scope",
            ),
            (Some("-.slice:p:n"), false, "-.slice", "p-n.scope"),
            (
                Some("machine.slice::n"),
                false,
                "machine.slice",
                "machine.slice/n.scope",
            ),
            (
                Some("kubepods-besteffort-pod1_2.slice:cri-containerd:0f"),
                false,
                "kubepods-besteffort-pod1_2.slice",
                "kubepods.slice/kubepods-besteffort.slice/\
                 kubepods-besteffort-pod1_2.slice/cri-containerd-0f.scope",
            ),
        ];
        for (path, user, slice, want) in table {
            let name = UnitName::parse(path, "c1", user).unwrap();
            assert_eq!((name.slice.as_str(), name.path().as_str()), (slice, want));
        }
    }

    #[test]
    fn refused() {
        for path in [
            "/a/b",
            "a",
            "a:b",
            "a:b:c:d",
            "a.slice:p:",
            "a.slice:p:../x",
            "a.slice:p:b/c",
            "../a.slice:p:n",
            "a/b.slice:p:n",
            "-a.slice:p:n",
            "a--b.slice:p:n",
            ".slice:p:n",
            "a.scope:p:n",
            "a.slice:p:n.slice",
            "a.slice:p:n\n",
        ] {
            let e = UnitName::parse(Some(path), "c1", false).unwrap_err();
            assert!(e.to_string().starts_with("cgroupsPath"), "{path}: {e}");
        }
    }
}
