//! A peer's bytes, frame by frame, with their header blocks.

#![no_main]

use streaming::spdy::frame::{self, Control, HEAD, Head};
use streaming::spdy::headers::{Inflater, LONGEST};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut inflater = Inflater::default();
    let mut rest = bytes;
    while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
        let (control, length) = match frame::head(*head) {
            Err(message) => return assert!(!message.contains('\n')),
            Ok(Head::Data { length, .. }) => (None, length),
            Ok(Head::Control { kind, flags, length }) => (Some((kind, flags)), length),
        };
        let Some((payload, next)) = after.split_at_checked(length as usize) else {
            return;
        };
        rest = next;
        let Some((kind, flags)) = control else {
            continue;
        };
        match frame::control(kind, flags, payload) {
            Err(message) => return assert!(!message.contains('\n')),
            Ok(
                Control::SynStream { block, .. }
                | Control::SynReply { block, .. }
                | Control::Headers { block, .. },
            ) => match inflater.headers(block) {
                Err(message) => return assert!(!message.contains('\n')),
                Ok(headers) => {
                    let size: usize = headers.iter().map(|(n, v)| n.len() + v.len()).sum();
                    // What is no UTF-8 grows threefold when it is marked.
                    assert!(size <= 3 * LONGEST);
                }
            },
            Ok(_) => {}
        }
    }
});
