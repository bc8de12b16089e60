//! Whose a container is: `hullctl logs web` is about a container of `hullctl run` if there is one
//! of that id, and else the CRI runtime's.

use std::ffi::OsString;

use super::record::Place;

/// Commands that both sides have and that name a container.
const NAMING: [&str; 6] = ["exec", "inspect", "logs", "rm", "stop", "wait"];

/// Inserts the word `container` where the command line is about a container of ours. `has_runtime`
/// says whether there is a CRI runtime to ask: where there is none, `ps` lists ours.
pub fn redirect(mut arguments: Vec<OsString>, has_runtime: impl FnOnce() -> bool) -> Vec<OsString> {
    // An option of the CRI's before the command settles whose it is.
    let Some(command) = arguments.get(1).and_then(|a| a.to_str()) else {
        return arguments;
    };
    let store = crate::image::store_root(None);
    let is_ours = |word: &OsString| {
        word.to_str()
            .and_then(|id| Place::of(&store, id).ok())
            .is_some_and(|place| place.read().is_ok())
    };
    let ours = match command {
        "ps" => !names_runtime(&arguments) && !has_runtime(),
        // The id comes first, or after options; what follows it is the container's own.
        name if NAMING.contains(&name) => arguments.iter().skip(2).any(is_ours),
        _ => false,
    };
    if ours {
        arguments.insert(1, "container".into());
    }
    arguments
}

fn names_runtime(arguments: &[OsString]) -> bool {
    arguments.iter().filter_map(|a| a.to_str()).any(|a| {
        a.starts_with("-r") || a.starts_with("--runtime-endpoint") || a.starts_with("--config")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_stays_as_it_is() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for line in [
            "hullctl logs nobody-has-this",
            "hullctl -r unix:///x ps",
            "hullctl",
        ] {
            assert_eq!(redirect(words(line), || true), words(line), "{line}");
        }
        assert_eq!(redirect(words("hullctl ps"), || true), words("hullctl ps"));
        assert_eq!(
            redirect(words("hullctl ps -a"), || false),
            words("hullctl container ps -a")
        );
    }
}
