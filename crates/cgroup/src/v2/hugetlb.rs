//! Which huge-page sizes this kernel has.

/// Names as cgroup files have them (`2MB`), from the directories `hugepages-2048kB`.
pub(crate) fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut sizes: Vec<String> = entries
        .filter_map(|e| file_name_size(e.ok()?.file_name().to_str()?))
        .collect();
    sizes.sort();
    sizes
}

fn file_name_size(name: &str) -> Option<String> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    Some(match kib {
        k if k >= 1 << 20 => format!("{}GB", k >> 20),
        k if k >= 1 << 10 => format!("{}MB", k >> 10),
        k => format!("{k}KB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(file_name_size("hugepages-2048kB").as_deref(), Some("2MB"));
        assert_eq!(
            file_name_size("hugepages-1048576kB").as_deref(),
            Some("1GB")
        );
        assert_eq!(file_name_size("hugepages-64kB").as_deref(), Some("64KB"));
        assert_eq!(file_name_size("other"), None);
    }
}
