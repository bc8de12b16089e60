//! File systems that are full.

use rustix::fs::statvfs;

use super::Evidence;
use super::story::Story;

/// The first of the container's file systems that has no block or no file left.
pub fn full(story: &Story) -> Option<Evidence> {
    let config = story.config.as_ref()?;
    let mut places = vec![("/".to_owned(), story.record.rootfs.display().to_string())];
    let binds = config.mounts.iter().filter(|m| m.source.starts_with('/'));
    places.extend(binds.map(|m| (m.destination.clone(), m.source.clone())));
    places.into_iter().find_map(|(inside, outside)| {
        let stat = statvfs(outside.as_str()).ok()?;
        // Pseudo file systems have no blocks at all.
        let what = if stat.f_blocks > 0 && stat.f_bavail == 0 {
            "0 blocks free"
        } else if stat.f_files > 0 && stat.f_favail == 0 {
            "0 inodes free"
        } else {
            return None;
        };
        Some(Evidence::new(
            format!("statvfs({outside})"),
            format!("{inside} ({outside}: {what})"),
        ))
    })
}
