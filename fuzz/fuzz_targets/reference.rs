//! A reference, as a person or a file names an image.

#![no_main]

#[path = "../documents.rs"]
mod documents;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    documents::reference(bytes);
});
