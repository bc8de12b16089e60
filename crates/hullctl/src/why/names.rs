//! From what a person types to a container, which may be gone.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use runtime::foreign::FOREIGN;
use runtime::record::Record;
use runtime::root::StateRoot;
use runtime::verdict::ENDED;

use crate::proc::containers;

/// A container.
#[derive(Debug)]
pub enum Found {
    /// It is there.
    Here(String),
    /// It is there, and another runtime has made it for hulld.
    Foreign(String),
    /// It was.
    Gone {
        /// What is kept of it.
        dir: PathBuf,
        /// When it was deleted.
        deleted: String,
        /// Its id.
        id: String,
    },
}

/// How well a container fits; the better the greater.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fit {
    Beginning,
    Name,
    Id,
}

fn fit(word: &str, id: &str, name: &str) -> Option<Fit> {
    if id == word {
        return Some(Fit::Id);
    }
    if name == word || name.rsplit('/').next() == Some(word) {
        return Some(Fit::Name);
    }
    // Shorter ones fit by accident.
    (word.len() >= 4 && id.starts_with(word)).then_some(Fit::Beginning)
}

/// The container that fits best; of those that are gone, the last.
///
/// # Errors
/// Several that are there fit as well as each other.
pub fn find(root: &Path, word: &str) -> Result<Option<Found>> {
    let mut here: Vec<(Fit, String, bool)> = Vec::new();
    if let Some(state) = StateRoot::open(root)? {
        for id in state.ids()? {
            let name = name_in(&state.path_of(&id), id.as_str());
            here.extend(fit(word, id.as_str(), &name).map(|fit| (fit, id.to_string(), false)));
        }
    }
    for id in containers::foreign(root) {
        let name = name_in(&root.join(FOREIGN).join(&id), &id);
        here.extend(fit(word, &id, &name).map(|fit| (fit, id, true)));
    }
    let gone = ended(root, word);
    let best_gone = gone.iter().map(|(fit, ..)| *fit).max();
    if let Some(best) = here.iter().map(|(fit, ..)| *fit).max()
        && best_gone.is_none_or(|gone| best >= gone)
    {
        let mut fitting = here.into_iter().filter(|(fit, ..)| *fit == best);
        let (first, is_foreign) = fitting.next().map(|f| (f.1, f.2)).unwrap_or_default();
        if let Some((_, other, _)) = fitting.next() {
            bail!("why: {word}: both {first} and {other} fit; say more of the id");
        }
        return Ok(Some(if is_foreign {
            Found::Foreign(first)
        } else {
            Found::Here(first)
        }));
    }
    let last = gone
        .into_iter()
        .max_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    Ok(last.map(|(_, deleted, id, dir)| Found::Gone { dir, deleted, id }))
}

/// Those that are gone and fit: how well, since when, id and directory.
fn ended(root: &Path, word: &str) -> Vec<(Fit, String, String, PathBuf)> {
    let kept = root.join(ENDED);
    let entries = std::fs::read_dir(&kept).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let fitting = names.filter_map(|file| {
        let (deleted, id) = file.split_once('@')?;
        let dir = kept.join(&file);
        let fit = fit(word, id, &name_in(&dir, id))?;
        Some((fit, deleted.to_owned(), id.to_owned(), dir))
    });
    fitting.collect()
}

fn name_in(dir: &Path, id: &str) -> String {
    let path = dir.join("state.json");
    let record = std::fs::read(&path).ok();
    let record = record.and_then(|bytes| Record::from_json(&bytes, &path).ok());
    record.map_or_else(
        || id.to_owned(),
        |r| containers::name_of(id, &r.annotations),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_fit() {
        let id = "0123456789ab";
        assert_eq!(fit(id, id, "web/nginx"), Some(Fit::Id));
        assert_eq!(fit("nginx", id, "web/nginx"), Some(Fit::Name));
        assert_eq!(fit("web/nginx", id, "web/nginx"), Some(Fit::Name));
        assert_eq!(fit("0123", id, "web/nginx"), Some(Fit::Beginning));
        assert_eq!(fit("012", id, "web/nginx"), None);
        assert_eq!(fit("web", id, "web/nginx"), None);
    }
}
