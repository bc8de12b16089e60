//! A path of a layer, and what it hides.

#![no_main]

#[path = "../checks_image.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::whiteout(bytes);
});
