//! Patterns of lines.

/// Whether the whole of `line` fits `pattern`, where `*` is any text and `?` any character.
pub(crate) fn fits(pattern: &str, line: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => line.is_empty(),
        Some('*') => {
            let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            let mut ends = ends.into_iter();
            ends.any(|at| fits(rest.as_str(), &line[at..]))
        }
        Some(c) => {
            let mut line = line.chars();
            line.next().is_some_and(|l| c == '?' || c == l) && fits(rest.as_str(), line.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, line, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*is*", "this", true),
            ("20??", "2026", true),
            ("20??", "206", false),
        ] {
            assert_eq!(fits(pattern, line), expected, "{pattern} {line}");
        }
    }
}
