//! All that is known of one container.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use runtime::record::Record;
use runtime::root::StateRoot;
use runtime::verdict::{FACTS, NOTES};
use runtime::{Container, ContainerId, Status};
use spec::oci::Spec;

use super::names;
use crate::proc::containers;

/// Something that was done to it or went wrong.
#[derive(Clone, Debug)]
pub struct Note {
    /// RFC 3339.
    pub time: String,
    /// `failed`, `exit`, `kill`, `stop`, `stages`.
    pub what: String,
    /// The rest of the line.
    pub detail: String,
}

/// A file of the kernel, as it was when the container was taken down.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A container's story.
#[derive(Debug)]
pub struct Story {
    /// Its id.
    pub id: String,
    /// What it is called: `pod/container` where its annotations say so, else its id.
    pub name: String,
    /// `running`, …, `stopped`; `gone` if it has been deleted.
    pub status: String,
    /// When it was deleted.
    pub deleted: Option<String>,
    /// What the runtime wrote down.
    pub record: Record,
    /// Its configuration.
    pub config: Option<Spec>,
    /// In order.
    pub notes: Vec<Note>,
    /// The kernel's files.
    pub facts: Vec<Fact>,
    /// Where all this lies.
    pub dir: PathBuf,
    /// Its processes.
    pub pids: Vec<i32>,
}

impl Story {
    /// Of the container that is there, else of the last one of that name that was.
    pub fn find(root: &Path, word: &str) -> Result<Option<Self>> {
        let Some(found) = names::find(root, word)? else {
            return Ok(None);
        };
        match found {
            names::Found::Here(id) => Self::of_living(root, &id),
            names::Found::Foreign(id) => Self::of_foreign(root, &id),
            names::Found::Gone { dir, deleted, id } => {
                let mut story = Self::read(dir, id, "gone".to_owned())?;
                story.deleted = Some(deleted);
                Ok(Some(story))
            }
        }
    }

    fn of_living(root: &Path, id: &str) -> Result<Option<Self>> {
        let Some((container, status)) = containers::open(root, id)? else {
            return Ok(None);
        };
        Self::of(&container, status).map(Some)
    }

    fn of_foreign(root: &Path, id: &str) -> Result<Option<Self>> {
        let Some(state) = StateRoot::open(root)? else {
            return Ok(None);
        };
        let container = runtime::foreign::open(&state, &ContainerId::new(id)?)?;
        let status = container.status()?;
        Self::of(&container, status).map(Some)
    }

    fn of(container: &Container, status: Status) -> Result<Self> {
        // While there are control groups; then what was found last is the best.
        if container.cgroups().is_some() {
            runtime::verdict::facts(container);
        }
        let dir = container.dir.path().to_owned();
        let mut story = Self::read(dir, container.id.to_string(), status.to_string())?;
        story.pids = runtime::processes::processes(container).unwrap_or_default();
        Ok(story)
    }

    fn read(dir: PathBuf, id: String, status: String) -> Result<Self> {
        let path = dir.join("state.json");
        let bytes = std::fs::read(&path).with_context(|| format!("read({})", path.display()))?;
        let record = Record::from_json(&bytes, &path)?;
        let config = std::fs::read(dir.join(runtime::container::CONFIG)).ok();
        Ok(Self {
            name: containers::name_of(&id, &record.annotations),
            id,
            status,
            deleted: None,
            record,
            // A configuration that could not be read is what it failed of.
            config: config.and_then(|bytes| spec::parse_config(&bytes).ok()),
            notes: notes(&dir),
            facts: facts(&dir),
            dir,
            pids: Vec::new(),
        })
    }

    /// The last note of a sort.
    pub fn last(&self, what: &str) -> Option<&Note> {
        self.notes.iter().rev().find(|n| n.what == what)
    }

    /// The facts in files of this name.
    pub fn files<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Fact> {
        let named = move |f: &&Fact| f.path.file_name().is_some_and(|n| n == name);
        self.facts.iter().filter(named)
    }

    /// How many of its processes the kernel killed for lack of memory.
    pub fn oom_kills(&self) -> u64 {
        let newer = self.number("memory.events", "oom_kill ");
        let counted = newer.or_else(|| self.number("memory.oom_control", "oom_kill "));
        // systemd may have removed the group, with its count, before anybody read it.
        counted.unwrap_or_else(|| u64::from(self.last("oom").is_some()))
    }

    /// The number of a `key value` line in the files of this name.
    pub fn number(&self, file: &str, key: &str) -> Option<u64> {
        let mut lines = self.files(file).flat_map(|f| f.text.lines());
        lines.find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
    }
}

fn notes(dir: &Path) -> Vec<Note> {
    let text = std::fs::read_to_string(dir.join(NOTES)).unwrap_or_default();
    let note = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        Some(Note {
            time: words.next()?,
            what: words.next()?,
            detail: words.next().unwrap_or_default(),
        })
    };
    text.lines().filter_map(note).collect()
}

fn facts(dir: &Path) -> Vec<Fact> {
    parse_facts(&std::fs::read_to_string(dir.join(FACTS)).unwrap_or_default())
}

fn parse_facts(text: &str) -> Vec<Fact> {
    let mut facts: Vec<Fact> = Vec::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("@ ") {
            facts.push(Fact {
                path: path.into(),
                text: String::new(),
            });
        } else if let Some(last) = facts.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        }
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_by_file() {
        let text = "@ /sys/fs/cgroup/a/memory.events\nlow 0\noom_kill 2\n@ /proc/1/stat\n1 (a) Z\n";
        let facts = parse_facts(text);
        assert_eq!(facts.len(), 2);
        assert_eq!(facts[0].text, "low 0\noom_kill 2\n");
        assert_eq!(facts[1].path, Path::new("/proc/1/stat"));
    }
}
