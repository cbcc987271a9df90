//! JSON as Go's `encoding/json` reads it: names in any case, the last of several, null for what is not there, anything
//! else ignored.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::DecodeError;

/// What an object's fields, named in lower case, make up.
pub(super) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, DecodeError> {
    let object: Object = serde_json::from_slice(value).map_err(DecodeError::invalid_value)?;
    object.into()
}

/// An object whose names are in lower case.
#[derive(Debug)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn into<T: DeserializeOwned>(self) -> Result<T, DecodeError> {
        serde_json::from_value(Value::Object(self.0)).map_err(DecodeError::invalid_value)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = Map::new();
        while let Some((mut name, value)) = map.next_entry::<String, Value>()? {
            name.make_ascii_lowercase();
            if !value.is_null() {
                fields.insert(name, value);
            }
        }
        Ok(Object(fields))
    }
}

/// A value of strings, numbers, lists and maps of them.
pub(super) fn write(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("what has names for keys is JSON")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::read;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Point {
        x: i64,
        label: Option<String>,
    }

    #[test]
    fn names_are_read_in_any_case_and_the_last_one_counts() {
        for text in [
            r#"{"x":7}"#,
            r#" {"X":1, "other":{"x":[9]}, "x":7, "Label":null} "#,
            r#"{"x":1,"X":7,"x":null}"#,
        ] {
            let point: Point = read(text.as_bytes()).expect(text);
            assert_eq!(point, Point { x: 7, label: None });
        }
    }

    #[test]
    fn what_go_would_refuse_is_refused() {
        let unclosed = "[".repeat(50_000);
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        for text in [
            "",
            "7",
            "null",
            "[]",
            r#"{"x":"7"}"#,
            r#"{"x":7.5}"#,
            &unclosed,
            &deep,
        ] {
            read::<Point>(text.as_bytes()).expect_err(text);
        }
        read::<Point>(b"{\"label\":\"\xff\"}").expect_err("it is no UTF-8");
    }
}
