//! Marshalling (D-Bus specification, "Marshaling (Wire Format)"). Pure.
//!
//! We write little-endian and read either. What comes in is checked against every limit that
//! the specification sets, because a length is used before the rest is seen.

use super::value::Value;

/// Deepest nesting that is read: 32 arrays and 32 structs, says the specification.
const MAX_DEPTH: u32 = 64;

/// Why bytes are not what they should be.
pub(crate) type Malformed = &'static str;

/// Appends values to a message.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    /// Zero bytes up to a multiple of `to`.
    pub(crate) fn align(&mut self, to: usize) {
        let len = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(len, 0);
    }

    fn fixed<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    fn length(&mut self, len: usize) {
        // Nothing that we send comes near to 4 GiB; a reader refuses it if it does.
        self.fixed(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes
            .push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// Appends one value.
    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Byte(n) => self.fixed([*n]),
            Value::Bool(b) => self.fixed(u32::from(*b).to_le_bytes()),
            Value::I16(n) => self.fixed(n.to_le_bytes()),
            Value::U16(n) => self.fixed(n.to_le_bytes()),
            Value::I32(n) => self.fixed(n.to_le_bytes()),
            Value::U32(n) => self.fixed(n.to_le_bytes()),
            Value::I64(n) => self.fixed(n.to_le_bytes()),
            Value::U64(n) => self.fixed(n.to_le_bytes()),
            Value::F64(n) => self.fixed(n.to_le_bytes()),
            Value::Str(s) | Value::Path(s) => self.text(s),
            Value::Signature(s) => self.signature(s),
            Value::Array(element, items) => self.array(element, items),
            Value::Struct(fields) => {
                self.align(8);
                fields.iter().for_each(|f| self.value(f));
            }
            Value::Entry(pair) => {
                self.align(8);
                self.value(&pair.0);
                self.value(&pair.1);
            }
            Value::Variant(inner) => {
                self.signature(&inner.signature());
                self.value(inner);
            }
        }
    }

    /// The length counts neither itself nor the padding before the first element.
    fn array(&mut self, element: &str, items: &[Value]) {
        self.length(0);
        let at = self.bytes.len() - 4;
        self.align(alignment(element));
        let start = self.bytes.len();
        items.iter().for_each(|i| self.value(i));
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        if let Some(slot) = self.bytes.get_mut(at..at + 4) {
            slot.copy_from_slice(&len.to_le_bytes());
        }
    }
}

/// Alignment of the type that a signature starts with.
fn alignment(signature: &str) -> usize {
    match signature.bytes().next() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// Takes values from a message.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

macro_rules! number {
    ($reader:expr, $kind:ty) => {{
        let bytes = $reader.fixed()?;
        if $reader.big_endian {
            <$kind>::from_be_bytes(bytes)
        } else {
            <$kind>::from_le_bytes(bytes)
        }
    }};
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `bytes`, which alignment counts from.
    pub(crate) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self {
            bytes,
            at: 0,
            big_endian,
        }
    }

    /// Where it is.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn align(&mut self, to: usize) -> Result<(), Malformed> {
        let padding = self.at.next_multiple_of(to) - self.at;
        if self.take(padding)?.iter().any(|&b| b != 0) {
            return Err("padding is not zero");
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).ok_or("a length overflows")?;
        let taken = self.bytes.get(self.at..end).ok_or("ends too early")?;
        self.at = end;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.align(N)?;
        let bytes = self.take(N)?;
        <[u8; N]>::try_from(bytes).map_err(|_| "ends too early")
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(number!(self, u32))
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.u32()?).map_err(|_| "a length overflows")
    }

    fn text(&mut self, len: usize) -> Result<String, Malformed> {
        let text = self.take(len)?;
        if self.take(1)? != [0] {
            return Err("a string does not end with a zero byte");
        }
        let text = std::str::from_utf8(text).map_err(|_| "a string is not UTF-8")?;
        Ok(text.to_owned())
    }

    /// Takes the values that a signature describes.
    pub(crate) fn values(&mut self, signature: &str) -> Result<Vec<Value>, Malformed> {
        let mut left = signature;
        let mut values = Vec::new();
        while !left.is_empty() {
            let (one, rest) = split(left, MAX_DEPTH)?;
            values.push(self.value(one, MAX_DEPTH)?);
            left = rest;
        }
        Ok(values)
    }

    fn value(&mut self, signature: &str, depth: u32) -> Result<Value, Malformed> {
        let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
        let inner = signature.get(1..).unwrap_or_default();
        Ok(match signature.bytes().next().ok_or("empty signature")? {
            b'y' => Value::Byte(self.fixed::<1>()?[0]),
            b'b' => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err("a boolean is neither 0 nor 1"),
            },
            b'n' => Value::I16(number!(self, i16)),
            b'q' => Value::U16(number!(self, u16)),
            b'i' => Value::I32(number!(self, i32)),
            b'u' => Value::U32(number!(self, u32)),
            b'x' => Value::I64(number!(self, i64)),
            b't' => Value::U64(number!(self, u64)),
            b'd' => Value::F64(number!(self, f64)),
            b's' => {
                let len = self.length()?;
                Value::Str(self.text(len)?)
            }
            b'o' => {
                let len = self.length()?;
                Value::Path(self.text(len)?)
            }
            b'g' => Value::Signature(self.signature()?),
            b'v' => {
                let signature = self.signature()?;
                let (one, rest) = split(&signature, depth)?;
                if !rest.is_empty() {
                    return Err("a variant has several values");
                }
                Value::Variant(Box::new(self.value(one, depth)?))
            }
            b'a' => self.array(inner, depth)?,
            b'(' => {
                self.align(8)?;
                let mut left = inner.strip_suffix(')').ok_or("unbalanced signature")?;
                let mut fields = Vec::new();
                while !left.is_empty() {
                    let (one, rest) = split(left, depth)?;
                    fields.push(self.value(one, depth)?);
                    left = rest;
                }
                Value::Struct(fields)
            }
            b'{' => {
                self.align(8)?;
                let (key, value) = split(inner, depth)?;
                let value = value.strip_suffix('}').ok_or("unbalanced signature")?;
                let pair = (self.value(key, depth)?, self.value(value, depth)?);
                Value::Entry(Box::new(pair))
            }
            _ => return Err("unknown type"),
        })
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let len = self.fixed::<1>()?[0];
        self.text(len.into())
    }

    fn array(&mut self, element: &str, depth: u32) -> Result<Value, Malformed> {
        let len = self.length()?;
        self.align(alignment(element))?;
        let end = self.at.checked_add(len).ok_or("a length overflows")?;
        if end > self.bytes.len() {
            return Err("an array ends after the message");
        }
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.value(element, depth)?);
            if self.at == before {
                return Err("an array has elements of no size");
            }
        }
        if self.at != end {
            return Err("an array's length does not fit its elements");
        }
        Ok(Value::Array(element.to_owned(), items))
    }
}

/// Splits the first complete type off a signature.
pub(crate) fn split(signature: &str, depth: u32) -> Result<(&str, &str), Malformed> {
    let end = first_type(signature.as_bytes(), depth)?;
    signature.split_at_checked(end).ok_or("unknown type")
}

/// Length of the first complete type.
fn first_type(s: &[u8], depth: u32) -> Result<usize, Malformed> {
    let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
    let after = |at: usize| first_type(s.get(at..).unwrap_or_default(), depth);
    let close = |at: usize, with: u8| {
        if s.get(at) == Some(&with) {
            Ok(at + 1)
        } else {
            Err("unbalanced signature")
        }
    };
    match s.first().ok_or("incomplete signature")? {
        b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g'
        | b'v' => Ok(1),
        b'a' => Ok(1 + after(1)?),
        b'(' => {
            let mut at = 1 + after(1)?;
            while s.get(at).is_some_and(|&c| c != b')') {
                at += after(at)?;
            }
            close(at, b')')
        }
        b'{' => {
            let key = 1 + after(1)?;
            let value = key + after(key)?;
            close(value, b'}')
        }
        _ => Err("unknown type"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::systemd::value::{property, signature_of};

    fn written(values: &[Value]) -> Vec<u8> {
        let mut w = Writer::default();
        values.iter().for_each(|v| w.value(v));
        w.bytes
    }

    /// Values whose arrays are well typed.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            (-1e9_f64..1e9).prop_map(Value::F64),
            "[a-zé/]{0,9}".prop_map(Value::Str),
            "(/[a-z]{1,3}){1,3}".prop_map(Value::Path),
            Just(Value::Signature("a{sv}".into())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Value::Struct),
                inner.clone().prop_map(|v| Value::Variant(Box::new(v))),
                (inner, 0_usize..4).prop_map(|(v, n)| {
                    let entry = Value::Entry(Box::new(("k".into(), v)));
                    Value::Array(entry.signature(), vec![entry; n])
                }),
            ]
        })
    }

    #[test]
    fn bytes_of_the_specification() {
        // The specification's own example: the string "foo", "+" and "bar" at alignment 4.
        let values = ["foo".into(), "+".into(), Value::from("bar")];
        let want = b"\x03\0\0\0foo\0\x01\0\0\0+\0\0\0\x03\0\0\0bar\0";
        assert_eq!(written(&values), want);
        // And an array of one 64-bit integer: the length does not count the padding.
        let array = Value::Array("x".into(), vec![Value::I64(5)]);
        assert_eq!(written(&[array]), b"\x08\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0");
        let one = property("N", Value::Bool(true));
        assert_eq!(written(&[one]), b"\x01\0\0\0N\0\x01b\0\0\0\0\x01\0\0\0");
    }

    #[test]
    fn big_endian_is_read() {
        let mut r = Reader::new(b"\0\0\0\x02hi\0\0\0\0\x01\x02", true);
        let want = [Value::from("hi"), Value::U32(0x102)];
        assert_eq!(r.values("su").unwrap(), want);
    }

    #[test]
    fn malformed() {
        for (bytes, signature) in [
            (&b"\x05\0\0\0ab"[..], "s"),
            (b"\x02\0\0\0abc", "s"),
            (b"\x02\0\0\0", "b"),
            (b"\xff\xff\xff\xffab\0", "s"),
            (b"\xff\xff\xff\x7f", "ay"),
            (b"\x01\0\0\0\x01", "au"),
            (b"a\x01", "yu"),
            (b"\x02ii\0\0\0\0\0", "v"),
            (b"\x01\0\0\0", "a"),
            (b"", "(i"),
            (b"", "{ii"),
            (b"", ")"),
            (b"", "()"),
            (b"", "\u{e9}"),
        ] {
            let got = Reader::new(bytes, false).values(signature);
            assert!(got.is_err(), "{bytes:?} {signature}: {got:?}");
        }
        let deep = "a".repeat(300) + "y";
        assert!(Reader::new(&[0; 64], false).values(&deep).is_err());
    }

    proptest! {
        #[test]
        fn there_and_back(values in prop::collection::vec(any_value(), 0..4)) {
            let bytes = written(&values);
            let mut r = Reader::new(&bytes, false);
            prop_assert_eq!(r.values(&signature_of(&values)).unwrap(), values);
            prop_assert_eq!(r.position(), bytes.len());
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            signature in "[ybnqiuxtdsogva(){}]{0,8}",
            big in any::<bool>(),
        ) {
            let _ = Reader::new(&bytes, big).values(&signature);
        }
    }
}
