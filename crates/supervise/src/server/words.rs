//! What a container said last.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// The last line that a container wrote, of its error output if there is one: from the end of its
/// log, which is the kubelet's to remove.
pub(super) fn last(log: &Path) -> Option<String> {
    const TAIL: u64 = 4096;
    const LINE: usize = 200;
    let mut file = std::fs::File::open(log).ok()?;
    let from = file.metadata().ok()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The log's lines are `TIME STREAM TAG TEXT`.
    let lines = text.lines().rev().filter_map(|line| {
        let (stream, rest) = line.split_once(' ')?.1.split_once(' ')?;
        let said = rest.split_once(' ')?.1.trim();
        (!said.is_empty()).then_some((stream, said))
    });
    let lines: Vec<(&str, &str)> = lines.collect();
    let error = lines.iter().find(|(stream, _)| *stream == "stderr");
    let (_, said) = error.or_else(|| lines.first())?;
    let plain = said.chars().filter(|c| !c.is_control());
    Some(plain.take(LINE).collect())
}
