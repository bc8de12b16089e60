//! Documents whose `console` blocks are sessions.

/// The steps of a document: in a block, a line with `$` is a command, the others are lines of its
/// output, in which `…` and two or more blanks stand for any text.
#[must_use]
pub fn steps_of(document: &str) -> String {
    let mut steps = String::new();
    let mut inside = false;
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside || line.is_empty() || line == "…" {
            continue;
        }
        let step = if line.starts_with("$ ") {
            line.to_owned()
        } else {
            format!("< *{}", pattern(line))
        };
        steps.push_str(&step);
        steps.push('\n');
    }
    steps
}

fn pattern(line: &str) -> String {
    let mut pattern = String::new();
    for c in line.trim().replace("  ", "…").chars() {
        match c {
            // Of three blanks one is left, which the star before it stands for.
            '…' | ' ' if pattern.ends_with('*') => {}
            '…' => pattern.push('*'),
            c => pattern.push(c),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::steps_of;

    #[test]
    fn commands_and_their_output() {
        let document = "text\n```console\n$ ls  -l\na   b…\n…\n```\n$ no\n```sh\n$ no\n```\n";
        assert_eq!(steps_of(document), "$ ls  -l\n< *a*b*\n");
    }
}
