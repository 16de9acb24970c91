//! Parses a JSON file of the app and says where it is broken.

use serde::de::DeserializeOwned;

/// A JSON file that cannot be used: where, and what is wrong there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{file}`, line {line}, column {column}: {why}")]
pub(crate) struct JsonError {
    pub(crate) file: &'static str,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) why: String,
}

/// Parses `text`, the content of the app's `file`.
pub(crate) fn parse_json<T: DeserializeOwned>(file: &'static str, text: &str) -> Result<T, JsonError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let why = error.to_string();
        // serde_json ends its text with the place, which has fields of its own here.
        let why = why
            .strip_suffix(&format!(" at line {line} column {column}"))
            .unwrap_or(&why)
            .to_string();
        JsonError {
            file,
            line,
            column,
            why,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_reason_are_told_apart() {
        let error =
            parse_json::<serde_json::Value>("package.json", "{\n  \"a\": 1\n  \"b\": 2\n}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`package.json`, line 3, column 3: expected `,` or `}`"
        );
    }
}
