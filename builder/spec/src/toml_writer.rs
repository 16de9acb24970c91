//! Writes TOML the way the reference lifecycle's library does, byte for byte.
//!
//! A file that ends up in a layer (`config/metadata.toml`) or that buildpacks print (`plan.toml`) is only the same
//! as the reference's if indents, quotes, blank lines and numbers are. The form: plain values before tables, two
//! blanks for each level, a blank line before each table of an array and before each top-level table but the first.

use toml::Value;
use toml::value::Datetime;
use toml::value::Offset;

/// A table in the order in which it is to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    values: Vec<(String, String)>,
    tables: Vec<(String, Tables)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Tables {
    One(Section),
    Many(Vec<Section>),
}

impl Section {
    /// A table with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a plain value: anything but a table or a list of tables.
    #[must_use]
    pub fn value(self, key: &str, value: impl Into<Value>) -> Self {
        self.raw(key, inline(&value.into()))
    }

    /// Adds a plain value if there is one.
    #[must_use]
    pub fn optional(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.value(key, value),
            None => self,
        }
    }

    /// Adds a text if it is not empty.
    #[must_use]
    pub fn text_unless_empty(self, key: &str, text: &str) -> Self {
        self.optional(key, (!text.is_empty()).then_some(text))
    }

    /// Adds a value that is already TOML.
    #[must_use]
    pub fn raw(mut self, key: &str, toml: String) -> Self {
        self.values.push((key.to_owned(), toml));
        self
    }

    /// Adds a table, even an empty one.
    #[must_use]
    pub fn table(mut self, key: &str, table: Section) -> Self {
        self.tables.push((key.to_owned(), Tables::One(table)));
        self
    }

    /// Adds a table before all other tables.
    #[must_use]
    pub fn table_first(mut self, key: &str, table: Section) -> Self {
        self.tables.insert(0, (key.to_owned(), Tables::One(table)));
        self
    }

    /// Adds a list of tables; an empty list adds nothing.
    #[must_use]
    pub fn tables(mut self, key: &str, tables: impl IntoIterator<Item = Section>) -> Self {
        self.tables
            .push((key.to_owned(), Tables::Many(tables.into_iter().collect())));
        self
    }

    /// Adds a table of any content, with its keys sorted, if there is one.
    #[must_use]
    pub fn metadata(self, key: &str, table: Option<&toml::Table>) -> Self {
        match table {
            Some(table) => self.table(key, table.into()),
            None => self,
        }
    }

    /// The table as the text of a whole file.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, "", 0);
        text
    }

    fn write(&self, text: &mut String, path: &str, depth: usize) {
        let indent = "  ".repeat(depth);
        for (key, value) in &self.values {
            text.extend([&indent, &quoted_key(key), " = ", value, "\n"]);
        }
        for (key, tables) in &self.tables {
            let path = if path.is_empty() {
                quoted_key(key)
            } else {
                format!("{path}.{}", quoted_key(key))
            };
            match tables {
                Tables::One(table) => {
                    if depth == 0 && !text.is_empty() {
                        text.push('\n');
                    }
                    text.extend([&indent, "[", &path, "]\n"]);
                    table.write(text, &path, depth + 1);
                }
                Tables::Many(tables) => {
                    for table in tables {
                        if !text.is_empty() {
                            text.push('\n');
                        }
                        text.extend([&indent, "[[", &path, "]]\n"]);
                        table.write(text, &path, depth + 1);
                    }
                }
            }
        }
    }
}

impl From<&toml::Table> for Section {
    /// The keys are sorted, as the reference sorts those of its maps.
    fn from(table: &toml::Table) -> Self {
        let mut entries: Vec<(&String, &Value)> = table.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        entries
            .into_iter()
            .fold(Self::new(), |section, (key, value)| match value {
                Value::Table(table) => section.table(key, table.into()),
                Value::Array(items) if is_list_of_tables(items) => {
                    section.tables(key, items.iter().filter_map(Value::as_table).map(Self::from))
                }
                plain => section.raw(key, inline(plain)),
            })
    }
}

fn is_list_of_tables(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(Value::is_table)
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => float(*number),
        Value::Boolean(truth) => truth.to_string(),
        Value::Datetime(time) => datetime(time),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            // Within an inline table, too, plain values come before tables.
            let mut entries: Vec<(&String, &Value)> = table.iter().collect();
            entries.sort_by_key(|(key, value)| (is_table_like(value), *key));
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted_key(key), inline(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn is_table_like(value: &Value) -> bool {
    match value {
        Value::Table(_) => true,
        Value::Array(items) => is_list_of_tables(items),
        _ => false,
    }
}

fn quoted_key(key: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(is_bare) {
        key.to_owned()
    } else {
        quoted(key)
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let code = u32::from(character);
                quoted.push_str("\\u00");
                quoted.extend(
                    [code / 16, code % 16]
                        .into_iter()
                        .filter_map(|digit| char::from_digit(digit, 16)),
                );
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The shortest digits that read back as the same number; with an exponent where Go's `%g` has one.
fn float(number: f64) -> String {
    if number.is_nan() {
        return if number.is_sign_negative() { "-nan" } else { "nan" }.to_owned();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let plain = number.to_string();
    if plain.contains('.') {
        plain
    } else {
        format!("{plain}.0")
    }
}

fn datetime(time: &Datetime) -> String {
    let mut time = *time;
    if let Some(Offset::Custom { minutes: 0 }) = time.offset {
        time.offset = Some(Offset::Z);
    }
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_written_as_the_reference_does() {
        let table: toml::Table = concat!(
            "b = 1\na = 'x'\nempty = []\nmixed = [{z = 1, a = {q = 1}, b = [1]}, 2]\n",
            "[[list]]\nk = 1\n[[list]]\n[t.u]\n[t]\nx = true\n['odd key']\n"
        )
        .parse()
        .unwrap();
        let expected = r#"a = "x"
b = 1
empty = []
mixed = [{b = [1], z = 1, a = {q = 1}}, 2]

[[list]]
  k = 1

[[list]]

["odd key"]

[t]
  x = true
  [t.u]
"#;
        assert_eq!(Section::from(&table).to_text(), expected);
    }

    #[test]
    fn lists_of_tables_within_a_list_of_tables_have_a_blank_line() {
        let provider = Section::new().value("id", "vec/one");
        let section = Section::new().tables("entries", [Section::new().tables("providers", [provider])]);
        assert_eq!(
            section.to_text(),
            "[[entries]]\n\n  [[entries.providers]]\n    id = \"vec/one\"\n"
        );
    }

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (123_456.0, "123456.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, text) in cases {
            assert_eq!(float(number), text);
            assert_eq!(
                format!("n = {text}").parse::<toml::Table>().unwrap()["n"],
                Value::Float(number)
            );
        }
        assert_eq!(float(f64::NAN), "nan");
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            quoted("a\"b\\c\n\t\r\u{8}\u{c}\u{1}\u{7f}é<&>"),
            r#""a\"b\\c\n\t\r\b\f\u0001\u007fé<&>""#
        );
        assert_eq!(quoted_key(""), "\"\"");
        assert_eq!(quoted_key("a.b"), "\"a.b\"");
    }

    #[test]
    fn times_keep_their_kind() {
        for (read, written) in [
            ("2001-02-03T04:05:06Z", "2001-02-03T04:05:06Z"),
            ("2001-02-03T04:05:06.500+00:00", "2001-02-03T04:05:06.5Z"),
            ("2001-02-03T04:05:06-07:30", "2001-02-03T04:05:06-07:30"),
            ("2001-02-03T04:05:06", "2001-02-03T04:05:06"),
            ("2001-02-03", "2001-02-03"),
            ("04:05:06.25", "04:05:06.25"),
        ] {
            let table: toml::Table = format!("t = {read}").parse().unwrap();
            assert_eq!(Section::from(&table).to_text(), format!("t = {written}\n"));
        }
    }
}
