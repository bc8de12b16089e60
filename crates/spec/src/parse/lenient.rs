//! A layer over any self-describing deserializer that reads `null` as "absent" and remembers
//! where a failure happened.
//!
//! It stands between serde_json and the derived code, so that neither the types nor their
//! attributes know of it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::value::{CowStrDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Deserializes `T`; after a failure the trail holds the path to it.
pub(super) fn deserialize<'de, T, D>(from: D, trail: &Trail) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(Lenient { inner: from, trail })
}

/// The steps from a failure up to the document, innermost first.
#[derive(Debug, Default)]
pub(super) struct Trail(RefCell<Vec<Step>>);

#[derive(Debug)]
enum Step {
    Index(usize),
    Key(String),
}

impl Trail {
    /// The JSON path of the failure; empty where none was recorded.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.borrow().iter().rev() {
            // Writing to a String cannot fail.
            let _ = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Key(key) if !is_plain(key) => {
                    write!(path, "[{}]", crate::error::quoted(key))
                }
                Step::Key(key) if path.is_empty() => path.write_str(key),
                Step::Key(key) => write!(path, ".{key}"),
            };
        }
        path
    }

    /// Passes a result through, noting the step where it is a failure.
    fn note<T, E>(&self, result: Result<T, E>, step: impl FnOnce() -> Step) -> Result<T, E> {
        if result.is_err() {
            self.0.borrow_mut().push(step());
        }
        result
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.len() < 64 && key.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A deserializer, or the seed of one, with the trail.
struct Lenient<'t, D> {
    inner: D,
    trail: &'t Trail,
}

/// What `null` stands for, by the type that was asked for.
#[derive(Clone, Copy)]
enum Null {
    Unit,
    Bool,
    Number,
    Text,
    Sequence,
    Map,
}

impl<'de, D: Deserializer<'de>> Lenient<'_, D> {
    fn any<V: Visitor<'de>>(self, visitor: V, null: Null) -> Result<V::Value, D::Error> {
        let trail = self.trail;
        self.inner.deserialize_any(Layer {
            inner: visitor,
            trail,
            null,
        })
    }
}

macro_rules! null_is {
    ($($method:ident => $null:ident),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.any(visitor, Null::$null)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Lenient<'_, D> {
    type Error = D::Error;

    null_is! {
        deserialize_any => Unit, deserialize_unit => Unit, deserialize_bool => Bool,
        deserialize_i8 => Number, deserialize_i16 => Number, deserialize_i32 => Number,
        deserialize_i64 => Number, deserialize_u8 => Number, deserialize_u16 => Number,
        deserialize_u32 => Number, deserialize_u64 => Number,
        deserialize_f32 => Number, deserialize_f64 => Number,
        deserialize_char => Text, deserialize_str => Text, deserialize_string => Text,
        deserialize_bytes => Text, deserialize_byte_buf => Text, deserialize_identifier => Text,
        deserialize_seq => Sequence, deserialize_map => Map,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let trail = self.trail;
        self.inner.deserialize_option(Layer {
            inner: visitor,
            trail,
            null: Null::Unit,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.any(visitor, Null::Map)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.any(visitor, Null::Unit)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.any(visitor, Null::Sequence)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.any(visitor, Null::Sequence)
    }

    // No document has an enum, and what is ignored is not looked at.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_ignored_any(visitor)
    }
}

/// A visitor, with what it is to get in place of `null`.
struct Layer<'t, V> {
    inner: V,
    trail: &'t Trail,
    null: Null,
}

macro_rules! pass_on {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Layer<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    pass_on! {
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64),
        visit_str(&str), visit_borrowed_str(&'de str), visit_string(String),
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        let empty = std::iter::empty::<()>();
        match self.null {
            Null::Unit => self.inner.visit_unit(),
            Null::Bool => self.inner.visit_bool(false),
            Null::Number => self.inner.visit_u64(0),
            Null::Text => self.inner.visit_borrowed_str(""),
            Null::Sequence => self.inner.visit_seq(SeqDeserializer::new(empty)),
            Null::Map => self
                .inner
                .visit_map(MapDeserializer::new(empty.map(|()| ("", "")))),
        }
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Lenient {
            inner: from,
            trail: self.trail,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Elements {
            inner: access,
            trail: self.trail,
            next: 0,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Entries {
            inner: access,
            trail: self.trail,
            key: Cow::Borrowed(""),
        })
    }
}

/// The elements of an array.
struct Elements<'t, A> {
    inner: A,
    trail: &'t Trail,
    next: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        let index = self.next;
        self.next += 1;
        let seed = Lenient {
            inner: seed,
            trail: self.trail,
        };
        self.trail
            .note(self.inner.next_element_seed(seed), || Step::Index(index))
    }
}

/// The entries of an object.
struct Entries<'de, 't, A> {
    inner: A,
    trail: &'t Trail,
    key: Cow<'de, str>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<'de, '_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(key) = self.inner.next_key_seed(Key)? else {
            return Ok(None);
        };
        self.key = key;
        seed.deserialize(CowStrDeserializer::new(self.key.clone()))
            .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        let seed = Lenient {
            inner: seed,
            trail: self.trail,
        };
        self.trail.note(self.inner.next_value_seed(seed), || {
            Step::Key(self.key.to_string())
        })
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Lenient<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T::Value, D::Error> {
        self.inner.deserialize(Lenient {
            inner: from,
            trail: self.trail,
        })
    }
}

/// Seed and visitor of an object's key, borrowed from the text where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
