//! What this build can do, on the kernel it runs on.

use spec::oci::Features;

/// The features document of the specification, with what only the running kernel can say.
#[must_use]
pub fn features() -> Features {
    let mut features = spec::features();
    let known = |word: &str| {
        let flag = seccomp::flags().find(|(name, _)| *name == word);
        flag.is_some_and(|(_, bit)| sys::seccomp::knows_flag(bit))
    };
    let supported = &mut features.linux.seccomp.supported_flags;
    supported.retain(|word| known(word));
    // The first is read by podman and others before they offer checkpoints.
    let more = [
        ("org.opencontainers.runc.checkpoint.enabled", "true"),
        ("hull.version", env!("CARGO_PKG_VERSION")),
    ];
    let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
    features.annotations.extend(more);
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn supported_flags_are_known_ones() {
        let seccomp = features().linux.seccomp;
        assert!(seccomp.known_flags.len() >= seccomp.supported_flags.len());
        // Linux 4.14 has it.
        assert!(
            seccomp
                .supported_flags
                .iter()
                .any(|f| f == "SECCOMP_FILTER_FLAG_LOG")
        );
    }
}
