//! An index, a manifest or a configuration, as a registry sends it.

#![no_main]

#[path = "../documents.rs"]
mod documents;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    documents::manifest(bytes);
});
