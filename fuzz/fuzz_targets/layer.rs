//! A tar stream, from bytes to an image.

#![no_main]

#[path = "../checks_image.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::layer(bytes);
    checks::layer(&checks::with_checksums(bytes));
});
