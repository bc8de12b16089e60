//! From the wire to JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::cri::schema::{Field, Kind, Label, Schema};

/// A value on the wire.
enum Wire<'b> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
}

/// A message's bytes as JSON.
pub fn message(name: &str, mut bytes: &[u8]) -> Option<Value> {
    let fields = Schema::cri().fields(name);
    let mut object = Map::new();
    for field in fields {
        if let Some(default) = default(field) {
            object.insert(field.json.clone(), default);
        }
    }
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let wire = match key & 7 {
            0 => Wire::Varint(varint(&mut bytes)?),
            1 => Wire::Fixed64(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Wire::Bytes(take(&mut bytes, length)?)
            }
            _ => return None,
        };
        // Fields of a newer interface are passed over.
        if let Some(field) = fields.iter().find(|f| u64::from(f.number) == key >> 3) {
            put(&mut object, field, &wire)?;
        }
    }
    Some(Value::Object(object))
}

fn default(field: &Field) -> Option<Value> {
    Some(match (field.label, &field.kind) {
        (Label::Many, _) => json!([]),
        (Label::Map, _) => json!({}),
        (Label::One, Kind::Message(_)) => return None,
        (Label::One, kind) => scalar(kind, &Wire::Varint(0))?,
    })
}

fn put(object: &mut Map<String, Value>, field: &Field, wire: &Wire<'_>) -> Option<()> {
    match (field.label, wire) {
        (Label::One, _) => {
            object.insert(field.json.clone(), value(&field.kind, wire)?);
        }
        (Label::Map, Wire::Bytes(entry)) => {
            let (key, value) = map_entry(entry)?;
            let map = object.get_mut(&field.json)?.as_object_mut()?;
            map.insert(key, value);
        }
        (Label::Map, _) => return None,
        (Label::Many, wire) => {
            let list = object.get_mut(&field.json)?.as_array_mut()?;
            match (&field.kind, wire) {
                (Kind::Text | Kind::Bytes | Kind::Message(_), _) => {
                    list.push(value(&field.kind, wire)?);
                }
                // Numbers of a list come packed, from some peers one by one.
                (_, Wire::Bytes(packed)) => {
                    let mut packed = *packed;
                    while !packed.is_empty() {
                        let number = match field.kind {
                            Kind::Double => {
                                let bytes = take(&mut packed, 8)?.try_into().ok()?;
                                Wire::Fixed64(u64::from_le_bytes(bytes))
                            }
                            _ => Wire::Varint(varint(&mut packed)?),
                        };
                        list.push(value(&field.kind, &number)?);
                    }
                }
                _ => list.push(value(&field.kind, wire)?),
            }
        }
    }
    Some(())
}

fn map_entry(mut bytes: &[u8]) -> Option<(String, Value)> {
    let (mut key, mut value) = (String::new(), String::new());
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let length = usize::try_from(varint(&mut bytes)?).ok()?;
        let text = String::from_utf8(take(&mut bytes, length)?.to_vec()).ok()?;
        match tag {
            10 => key = text,
            18 => value = text,
            _ => return None,
        }
    }
    Some((key, value.into()))
}

fn value(kind: &Kind, wire: &Wire<'_>) -> Option<Value> {
    match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => {
            Some(String::from_utf8_lossy(bytes).into_owned().into())
        }
        (Kind::Bytes, Wire::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        (Kind::Message(name), Wire::Bytes(bytes)) => message(name, bytes),
        (_, Wire::Bytes(_)) => None,
        _ => scalar(kind, wire),
    }
}

fn scalar(kind: &Kind, wire: &Wire<'_>) -> Option<Value> {
    let bits = match wire {
        Wire::Varint(n) | Wire::Fixed64(n) => *n,
        Wire::Bytes(_) => return None,
    };
    // Negative numbers are varints of 64 bits.
    let signed = i64::from_le_bytes(bits.to_le_bytes());
    Some(match kind {
        Kind::Text | Kind::Bytes => "".into(),
        Kind::Bool => (bits != 0).into(),
        Kind::Int32 => signed.into(),
        Kind::Uint32 => bits.into(),
        Kind::Int64 => signed.to_string().into(),
        Kind::Uint64 => bits.to_string().into(),
        Kind::Double => match wire {
            Wire::Fixed64(bits) => f64::from_bits(*bits).into(),
            _ => 0.0.into(),
        },
        Kind::Enum(name) => {
            let names = Schema::cri().names(name);
            let found = names.iter().find(|(_, n)| i64::from(*n) == signed);
            // A value of a newer interface stays a number.
            found.map_or_else(|| signed.into(), |(name, _)| name.as_str().into())
        }
        Kind::Message(_) => return None,
    })
}

fn take<'b>(bytes: &mut &'b [u8], n: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut out = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        out |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(out);
        }
    }
    None
}
