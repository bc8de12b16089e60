//! `-v SOURCE:DIR[:OPTIONS]`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use spec::oci::Mount;

/// A directory or file of the machine, or a named volume, inside a container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Volume {
    source: String,
    target: String,
    options: Vec<String>,
}

/// Options that the runtime knows; `z` and `Z` ask for SELinux labels.
const OPTIONS: [&str; 14] = [
    "ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "shared", "rshared", "slave",
    "rslave", "private", "rprivate",
];

impl Volume {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            format!("run: --volume {text}: {why}; write /SOURCE:/DIR[:ro] or NAME:/DIR")
        };
        let mut fields = text.split(':');
        let (Some(source), Some(target)) = (fields.next(), fields.next()) else {
            bail!("{}", wrong("no directory inside"));
        };
        let options: Vec<String> = fields
            .next()
            .into_iter()
            .flat_map(|o| o.split(','))
            .filter(|o| !["z", "Z"].contains(o))
            .map(str::to_owned)
            .collect();
        let known = |o: &&String| OPTIONS.contains(&o.as_str());
        if let Some(option) = options.iter().find(|o| !known(o)) {
            bail!("{}", wrong(&format!("option {option:?} is not known")));
        }
        if fields.next().is_some() || !target.starts_with('/') {
            bail!("{}", wrong("the directory inside is not an absolute path"));
        }
        let is_name = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_alphanumeric())
                && s.chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        };
        if !source.starts_with('/') && !is_name(source) {
            bail!(
                "{}",
                wrong("the source is neither an absolute path nor a volume's name")
            );
        }
        Ok(Self {
            source: source.to_owned(),
            target: target.to_owned(),
            options,
        })
    }

    /// The mount; a named volume is a directory below `volumes`, made where missing.
    pub fn mount(&self, volumes: &Path) -> Result<Mount> {
        let source = if self.source.starts_with('/') {
            self.source.clone()
        } else {
            let path = volumes.join(&self.source);
            std::fs::create_dir_all(&path).with_context(|| format!("mkdir({})", path.display()))?;
            path.display().to_string()
        };
        std::fs::metadata(&source).with_context(|| format!("run: --volume: source {source}"))?;
        let mut options = vec!["rbind".to_owned()];
        options.extend(self.options.iter().cloned());
        Ok(Mount {
            destination: self.target.clone(),
            kind: "bind".to_owned(),
            source,
            options,
            ..Mount::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let volume = Volume::parse("/etc:/mnt/etc:ro,Z").unwrap();
        let mount = volume.mount(Path::new("/none")).unwrap();
        assert_eq!(mount.options, ["rbind", "ro"]);
        assert_eq!(mount.destination, "/mnt/etc");
        for text in ["/a", "/a:b", "../a:/b", "/a:/b:magic", "/a:/b:ro:x", ":/b"] {
            assert!(Volume::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_a_directory_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let mount = Volume::parse("data:/var/lib/x").unwrap().mount(dir.path());
        assert_eq!(
            mount.unwrap().source,
            dir.path().join("data").display().to_string()
        );
        assert!(dir.path().join("data").is_dir());
    }
}
