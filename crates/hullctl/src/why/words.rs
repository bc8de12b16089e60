//! What a program that failed said last, and what that tells: refused for want of a capability, a
//! file system that is read-only or full. Only of containers whose output a supervisor keeps.

use super::story::Story;
use super::{Evidence, Verdict};

/// What a program was doing, by a word that it or its command line says, and what that needs.
const NEEDS: [(&str, &str); 22] = [
    ("umount", "CAP_SYS_ADMIN"),
    ("mount", "CAP_SYS_ADMIN"),
    ("unshare", "CAP_SYS_ADMIN"),
    ("sethostname", "CAP_SYS_ADMIN"),
    ("hostname", "CAP_SYS_ADMIN"),
    ("swapon", "CAP_SYS_ADMIN"),
    ("chown", "CAP_CHOWN"),
    ("chroot", "CAP_SYS_CHROOT"),
    ("mknod", "CAP_MKNOD"),
    ("ptrace", "CAP_SYS_PTRACE"),
    ("strace", "CAP_SYS_PTRACE"),
    ("settimeofday", "CAP_SYS_TIME"),
    ("date", "CAP_SYS_TIME"),
    ("RTNETLINK", "CAP_NET_ADMIN"),
    ("iptables", "CAP_NET_ADMIN"),
    ("nft", "CAP_NET_ADMIN"),
    ("ping", "CAP_NET_RAW"),
    ("raw socket", "CAP_NET_RAW"),
    ("bind", "CAP_NET_BIND_SERVICE"),
    ("setgroups", "CAP_SETGID"),
    ("setgid", "CAP_SETGID"),
    ("setuid", "CAP_SETUID"),
];

/// The last line, as its supervisor wrote it down.
pub fn last(story: &Story) -> Option<&str> {
    story.last("said").map(|note| note.detail.as_str())
}

/// What the last words tell of an end that is put into words as `ended`.
pub fn judge(story: &Story, ended: &str) -> Option<Verdict> {
    let words = last(story)?;
    let has = |text: &str| words.to_ascii_lowercase().contains(text);
    let (kind, reason) = if has("read-only file system") {
        ("read-only", read_only(story))
    } else if has("no space left on device") {
        ("space", "no space was left there".to_owned())
    } else if has("quota exceeded") {
        ("space", "the quota there was used up".to_owned())
    } else if has("operation not permitted") || has("permission denied") {
        ("capability", missing(story, words)?)
    } else {
        return None;
    };
    Some(Verdict {
        kind,
        sentence: format!("{ended}; its last words were `{words}`: {reason}"),
        evidence: vec![Evidence::new("its output", words)],
    })
}

fn read_only(story: &Story) -> String {
    let root = story.config.as_ref().and_then(|c| c.root.as_ref());
    match root.is_some_and(|r| r.readonly) {
        true => "its root file system is read-only (root.readonly in config.json)".to_owned(),
        false => "a mount of its is read-only".to_owned(),
    }
}

/// The capability that what it did needs and that it does not have.
fn missing(story: &Story, words: &str) -> Option<String> {
    let process = story.config.as_ref()?.process.as_ref()?;
    let sets = process.capabilities.as_ref();
    let has = |name: &str| sets.is_some_and(|s| s.effective.iter().any(|c| c == name));
    let program = process.args.join(" ");
    let said = |what: &&(&str, &str)| has_word(words, what.0);
    let ran = |what: &&(&str, &str)| has_word(&program, what.0);
    let need = NEEDS.iter().find(said).or_else(|| NEEDS.iter().find(ran));
    let (what, name) = need.filter(|(_, name)| !has(name))?;
    Some(format!("{what} needs {name}, which it does not have"))
}

/// Whether the word stands there by itself; one with a blank in it as it is.
fn has_word(text: &str, word: &str) -> bool {
    if word.contains(' ') {
        return text.contains(word);
    }
    text.split(|c: char| !c.is_alphanumeric())
        .any(|w| w == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_by_themselves() {
        assert!(has_word("/bin/mount: no", "mount"));
        assert!(has_word("open a raw socket", "raw socket"));
        for other in ["umount: no", "the amount", "updates"] {
            assert!(
                !has_word(other, "mount") && !has_word(other, "date"),
                "{other}"
            );
        }
    }
}
