//! What becomes of a layer's metadata between two builds: TOML to JSON in a label, and from there to TOML.
//!
//! The way through JSON loses types: a whole number comes back as a float and a time as a text. Buildpacks see that
//! under the reference lifecycle, so they see it here.

use serde_json::Number;
use serde_json::Value as Json;
use toml::Value as Toml;
use toml::value::Datetime;
use toml::value::Offset;

/// The `[metadata]` of a file as it stands in a label.
///
/// A time without a zone is taken as UTC. JSON has no infinity and no "not a number": they become `null`.
pub fn metadata_to_json(metadata: &toml::Table) -> Json {
    // Sorted here, because another crate of the program may have switched serde_json's maps to keep their order.
    let mut entries: Vec<(&String, &Toml)> = metadata.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    Json::Object(
        entries
            .into_iter()
            .map(|(key, value)| (key.clone(), to_json(value)))
            .collect(),
    )
}

/// The metadata in a label as the `[metadata]` of a restored file.
///
/// `null` members have no form in TOML and are left out. What is no object (`null` for a layer without metadata)
/// gives an empty table.
pub fn metadata_from_json(metadata: &Json) -> toml::Table {
    match metadata {
        Json::Object(members) => members
            .iter()
            .filter_map(|(key, value)| from_json(value).map(|value| (key.clone(), value)))
            .collect(),
        _ => toml::Table::new(),
    }
}

fn to_json(value: &Toml) -> Json {
    match value {
        Toml::String(text) => Json::String(text.clone()),
        Toml::Integer(number) => Json::Number((*number).into()),
        Toml::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Toml::Boolean(truth) => Json::Bool(*truth),
        Toml::Datetime(time) => Json::String(instant(*time)),
        Toml::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        Toml::Table(table) => metadata_to_json(table),
    }
}

fn from_json(value: &Json) -> Option<Toml> {
    match value {
        Json::Null => None,
        Json::Bool(truth) => Some(Toml::Boolean(*truth)),
        Json::Number(number) => number.as_f64().map(Toml::Float),
        Json::String(text) => Some(Toml::String(text.clone())),
        Json::Array(items) => Some(Toml::Array(items.iter().filter_map(from_json).collect())),
        Json::Object(_) => Some(Toml::Table(metadata_from_json(value))),
    }
}

/// Go has one type for all four kinds of TOML's times: an instant, at midnight or in the year 0 if a part is missing.
fn instant(mut time: Datetime) -> String {
    if matches!(time.offset, None | Some(Offset::Custom { minutes: 0 })) {
        time.offset = Some(Offset::Z);
    }
    let midnight = toml::value::Time {
        hour: 0,
        minute: 0,
        second: Some(0),
        nanosecond: None,
    };
    time.date = time.date.or(Some(toml::value::Date {
        year: 0,
        month: 1,
        day: 1,
    }));
    time.time = time.time.or(Some(midnight));
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_writer;
    use crate::toml_writer::Section;

    const METADATA: &str = "n = 1\nf = 1.5\nwhole = 2.0\nyes = true\ntext = 'a<b'\nlist = [1, 'x', []]\n\
        at = 2001-02-03T04:05:06Z\nday = 2001-02-03\nclock = 04:05:06.5\nlocal = 2001-02-03T04:05:06\n\
        zone = 2001-02-03T04:05:06+01:00\n[deep]\nb = 2\n[[deep.many]]\nc = 3\n";

    #[test]
    fn to_json_as_go_writes_it() {
        let json = metadata_to_json(&METADATA.parse().unwrap());
        assert_eq!(
            json_writer::to_text(&json).unwrap(),
            concat!(
                r#"{"at":"2001-02-03T04:05:06Z","clock":"0000-01-01T04:05:06.5Z","day":"2001-02-03T00:00:00Z","#,
                r#""deep":{"b":2,"many":[{"c":3}]},"f":1.5,"list":[1,"x",[]],"local":"2001-02-03T04:05:06Z","n":1,"#,
                r#""text":"a\u003cb","whole":2,"yes":true,"zone":"2001-02-03T04:05:06+01:00"}"#
            )
        );
    }

    #[test]
    fn numbers_come_back_as_floats_and_times_as_texts() {
        let json = metadata_to_json(&METADATA.parse().unwrap());
        let label: Json = serde_json::from_str(&json_writer::to_text(&json).unwrap()).unwrap();
        let restored = metadata_from_json(&label);
        assert_eq!(restored["n"], Toml::Float(1.0));
        assert_eq!(restored["at"], Toml::String("2001-02-03T04:05:06Z".to_owned()));
        assert_eq!(restored["deep"]["many"][0]["c"], Toml::Float(3.0));
        let text = Section::new().metadata("metadata", Some(&restored)).to_text();
        assert!(text.contains("  list = [1.0, \"x\", []]\n"), "{text}");
    }

    #[test]
    fn nothing_is_restored_from_nothing() {
        assert!(metadata_from_json(&Json::Null).is_empty());
        assert!(metadata_from_json(&serde_json::json!({"a": null})).is_empty());
    }
}
