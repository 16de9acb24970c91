//! Writes JSON the way Go's `encoding/json` does: the form of the labels and of the legacy SBOM files.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// A value as the text of a label: no blanks, fields in the order of the type, no newline at the end.
///
/// # Errors
/// If a map of the value has keys that are no text.
pub fn to_text<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, GoFormatter))?;
    // The serializer was given texts and writes ASCII around them.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, number: f64) -> io::Result<()> {
        writer.write_all(float(number).as_bytes())
    }

    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        for character in text.chars() {
            if matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                write!(writer, "\\u{:04x}", u32::from(character))?;
            } else {
                write!(writer, "{character}")?;
            }
        }
        Ok(())
    }
}

/// The shortest digits that read back as the same number, as in ECMAScript: an exponent only from 1e21 and below 1e-6.
fn float(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let scientific = format!("{number:e}");
        return match scientific.split_once("e-") {
            Some(_) => scientific,
            None => scientific.replace('e', "e+"),
        };
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn escapes_what_go_escapes() {
        let text = to_text("a<b>&\u{2028}\u{2029}\"\\\n\r\t\u{8}\u{c}\u{1}\u{7f}é/").unwrap();
        assert_eq!(
            text,
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\\\n\\r\\t\\b\\f\\u0001\u{7f}é/\""
        );
    }

    #[test]
    fn keys_are_escaped_and_sorted() {
        assert_eq!(
            to_text(&json!({"b": 1, "<": null, "a": []})).unwrap(),
            "{\"\\u003c\":null,\"a\":[],\"b\":1}"
        );
    }

    #[test]
    fn floats_have_no_needless_fraction() {
        let cases = [
            (1.0, "1"),
            (-0.5, "-0.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000_001, "0.000001"),
            (1e-7, "1e-7"),
            (0.0, "0"),
        ];
        for (number, text) in cases {
            assert_eq!(to_text(&number).unwrap(), text);
        }
        assert_eq!(to_text(&i64::MAX).unwrap(), "9223372036854775807");
    }
}
