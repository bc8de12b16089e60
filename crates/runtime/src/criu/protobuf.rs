//! As much of the protocol buffers wire format as criu's requests and responses use: varints and
//! length-delimited fields.

/// A message in the making: fields are appended in any order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Writer(Vec<u8>);

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Writer {
    /// `uint32`, `uint64`, `bool` and enumerations.
    pub(super) fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.key(field, VARINT);
        self.varint(value);
        self
    }

    /// `int32`: a negative number is written as 64 bits.
    pub(super) fn int32(&mut self, field: u32, value: i32) -> &mut Self {
        self.number(field, i64::from(value).cast_unsigned())
    }

    /// `bool`; false is left out, as an absent one means false.
    pub(super) fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        if value {
            self.number(field, 1);
        }
        self
    }

    /// `string` and `bytes`.
    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.key(field, BYTES);
        self.varint(u64::try_from(value.len()).unwrap_or(0));
        self.0.extend_from_slice(value);
        self
    }

    /// A message inside the message.
    pub(super) fn message(&mut self, field: u32, value: &Self) -> &mut Self {
        self.bytes(field, &value.0)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn key(&mut self, field: u32, wire_type: u64) {
        self.varint(u64::from(field) << 3 | wire_type);
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return;
            }
            self.0.push(low | 0x80);
        }
    }
}

/// One field that was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by number, in their order; `None` where the bytes are no message.
pub(super) fn fields(bytes: &[u8]) -> Option<Vec<(u32, Value<'_>)>> {
    let mut rest = bytes;
    let mut list = Vec::new();
    while !rest.is_empty() {
        let key = take_varint(&mut rest)?;
        let field = u32::try_from(key >> 3).ok().filter(|&f| f != 0)?;
        let value = match key & 7 {
            VARINT => Value::Number(take_varint(&mut rest)?),
            BYTES => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            // None of ours; passed over like every field that is not known.
            FIXED64 => Value::Bytes(take(&mut rest, 8)?),
            FIXED32 => Value::Bytes(take(&mut rest, 4)?),
            _ => return None,
        };
        list.push((field, value));
    }
    Some(list)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_encoding_of_the_format_s_own_description() {
        // protobuf.dev, "Encoding": field 1 = 150; field 2 = "testing"; field 3 = a message.
        let mut inner = Writer::default();
        inner.number(1, 150);
        assert_eq!(inner.as_bytes(), [0x08, 0x96, 0x01]);
        let mut text = Writer::default();
        text.bytes(2, b"testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        let mut outer = Writer::default();
        outer.message(3, &inner);
        assert_eq!(outer.as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let mut negative = Writer::default();
        negative.int32(1, -2).flag(2, false).flag(3, true);
        let bytes = [
            0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x18, 0x01,
        ];
        assert_eq!(negative.as_bytes(), bytes);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = fields(&bytes);
        }

        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec((1_u32..1000, any::<u64>()), 0..8), text in "\\PC{0,40}") {
            let mut writer = Writer::default();
            for (field, number) in &numbers {
                writer.number(*field, *number);
            }
            writer.bytes(7, text.as_bytes());
            let read = fields(writer.as_bytes()).unwrap();
            let (last, rest) = read.split_last().unwrap();
            prop_assert_eq!(*last, (7, Value::Bytes(text.as_bytes())));
            let wanted: Vec<_> = numbers.into_iter().map(|(f, n)| (f, Value::Number(n))).collect();
            prop_assert_eq!(rest, &wanted[..]);
        }
    }
}
