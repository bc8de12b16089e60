//! What CNI plugins answer, and what networks are configured.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    net::survive::cni(bytes);
});
