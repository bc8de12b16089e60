//! The fuzz targets' checks over their seeds and over mutations of these.

#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/documents.rs"]
mod documents;

use proptest::prelude::*;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|p| std::fs::read(p).unwrap()).collect()
}

#[test]
fn seeds_hold() {
    let good = seeds("reference")
        .iter()
        .filter(|s| documents::reference(s).is_some())
        .count();
    assert!(good > 0);
    let good = seeds("manifest")
        .iter()
        .filter(|s| documents::manifest(s).is_some())
        .count();
    assert!(good > 1);
}

/// A seed with some bytes replaced and a part of it repeated or left out.
fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seeds = seeds(target);
    let bytes = prop_oneof![
        Just(b'"'),
        Just(b'/'),
        Just(b':'),
        Just(b'{'),
        Just(b'-'),
        any::<u8>()
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), bytes), 0..4);
    let cut = any::<(prop::sample::Index, prop::sample::Index, bool)>();
    (prop::sample::select(seeds), edits, cut).prop_map(|(mut seed, edits, (a, b, twice))| {
        for (at, byte) in edits {
            let at = at.index(seed.len());
            seed[at] = byte;
        }
        let (a, b) = (a.index(seed.len()), b.index(seed.len()));
        let part: Vec<u8> = seed[a.min(b)..a.max(b)].to_vec();
        if twice {
            seed.splice(a..a, part);
        } else if part.len() < 20 {
            seed.drain(a.min(b)..a.max(b));
        }
        seed
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn references_hold(bytes in mutated("reference")) {
        documents::reference(&bytes);
    }

    #[test]
    fn manifests_hold(bytes in mutated("manifest")) {
        documents::manifest(&bytes);
    }
}
