//! What the kernel says of links, rules and connections.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    net::survive::netlink(bytes);
});
