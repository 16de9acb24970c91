//! Canonical JSON: keys sorted by bytes, no spaces; the same value has the same bytes on every machine.

use serde_json::Value;

/// The most bytes of a manifest, index or configuration that is read.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// The canonical bytes of a value. Keys are sorted here, whatever order the map of the build keeps.
pub fn canonical_bytes(value: &Value) -> Vec<u8> {
    sorted(value).to_string().into_bytes()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(members) => {
            let mut keys: Vec<&String> = members.keys().collect();
            keys.sort_unstable();
            Value::Object(
                keys.into_iter()
                    .map(|key| (key.clone(), sorted(&members[key])))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: Value = serde_json::from_str(r#"{"b":[{"d":1,"c":"<é>"}],"a":null}"#).unwrap();
        assert_eq!(
            String::from_utf8(canonical_bytes(&value)).unwrap(),
            r#"{"a":null,"b":[{"c":"<é>","d":1}]}"#
        );
    }
}
