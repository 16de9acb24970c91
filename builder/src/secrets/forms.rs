//! The forms in which a secret's bytes turn up: as they are, in base64, percent-encoded, in hex, escaped for JSON and for
//! shells. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE;

use crate::model::secret::SECRET_BYTES_MIN;

/// Columns after which `base64` and `openssl` break their lines.
const BASE64_COLUMNS: [usize; 2] = [76, 64];
/// A line of a key in PEM has at least this many characters, but for the last one.
const PEM_LINE_MIN: usize = 40;

/// Bytes of all secrets together that are known in encoded forms too.
const ENCODED_BYTES_MAX: usize = 64 << 10;
/// Bytes of each secret that are, however many there are.
const ENCODED_BYTES_MIN: usize = 1 << 10;

/// A sequence of bytes that gives a secret away, and what it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// In words that follow the secret's name: `in base64`.
    pub words: &'static str,
}

/// How many of the first bytes of each of so many secrets are known in encoded forms.
pub fn encoded_max(secrets: usize) -> usize {
    (ENCODED_BYTES_MAX / secrets.max(1)).max(ENCODED_BYTES_MIN)
}

/// Every form of a secret. The encoded ones are those of its first `encoded_max` bytes: a long file is recognised by its
/// beginning, and the tables stay small.
pub fn all_forms(value: &[u8], encoded_max: usize) -> Vec<Form> {
    let value = value.trim_ascii();
    let mut forms = vec![form(value, "as it is")];
    let start = &value[..value.len().min(encoded_max)];
    for bytes in base64_forms(start) {
        forms.push(form(bytes, "in base64"));
    }
    for bytes in percent_forms(start) {
        forms.push(form(bytes, "percent-encoded"));
    }
    forms.push(form(hex(start, b"0123456789abcdef"), "in hex"));
    forms.push(form(hex(start, b"0123456789ABCDEF"), "in hex"));
    for bytes in json_forms(start) {
        forms.push(form(bytes, "escaped for JSON"));
    }
    for bytes in shell_forms(start) {
        forms.push(form(bytes, "quoted for a shell"));
    }
    sorted(forms)
}

/// The lines of a secret of several that are long enough to be told from other text.
pub fn lines(value: &[u8]) -> Vec<Form> {
    let is_long =
        |line: &&[u8]| line.iter().filter(|byte| !byte.is_ascii_whitespace()).count() >= SECRET_BYTES_MIN;
    let lines = value
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .map(<[u8]>::trim_ascii);
    sorted(lines.filter(is_long).map(|line| form(line, "in part")).collect())
}

/// The lines of a key in PEM, without its frame, which every key has.
pub fn pem_lines(value: &[u8]) -> Vec<Form> {
    let is_pem = value.trim_ascii_start().starts_with(b"-----BEGIN ");
    let mut found = if is_pem { lines(value) } else { Vec::new() };
    found.retain(|line| line.bytes.len() >= PEM_LINE_MIN && !line.bytes.starts_with(b"-----"));
    found
}

fn form(bytes: impl Into<Vec<u8>>, words: &'static str) -> Form {
    Form {
        bytes: bytes.into(),
        words,
    }
}

/// Each sequence once, in an order that does not depend on how it was found.
fn sorted(mut forms: Vec<Form>) -> Vec<Form> {
    let mut seen = std::collections::BTreeSet::new();
    forms.retain(|form| form.bytes.len() >= SECRET_BYTES_MIN && seen.insert(form.bytes.clone()));
    forms
}

/// What base64 makes of it wherever it stands in what is encoded: for each of the three places in a group of three
/// bytes the characters that depend on it alone. Then what it is encoded by itself, with its end and in lines.
fn base64_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for engine in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let encoded = engine.encode([&[0; 2][..before], value].concat());
            // Characters that hold bits of what is before, and of what is behind.
            let first = [0, 2, 3][before];
            let whole_bits = (before + value.len()) * 8;
            all.push(encoded.as_bytes()[first..whole_bits / 6].to_vec());
        }
        let alone = engine.encode(value).into_bytes();
        let end = alone.iter().position(|byte| *byte == b'=').unwrap_or(alone.len());
        all.push(alone[..end].to_vec());
        for columns in BASE64_COLUMNS {
            all.push(alone.chunks(columns).collect::<Vec<_>>().join(&b'\n'));
        }
        all.push(alone);
    }
    all
}

fn percent_forms(value: &[u8]) -> Vec<Vec<u8>> {
    // RFC 3986 leaves the first ones as they are; encodeURIComponent and curl some more, and a form has `+` for a space.
    let mut all = Vec::new();
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        for (kept, space) in [
            (&b"-_.~"[..], None),
            (b"-_.~!*'()", None),
            (b"-_.*", Some(b'+')),
            (b"-_.~/", None),
            (b"-_.!~*'()/:;,?@&=+$#", None),
        ] {
            all.push(percent(value, digits, space, |byte| {
                byte.is_ascii_alphanumeric() || kept.contains(&byte)
            }));
        }
        all.push(percent(value, digits, None, |_| false));
    }
    all
}

fn percent(value: &[u8], digits: &[u8; 16], space: Option<u8>, is_kept: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() * 2);
    for byte in value {
        match space {
            Some(space) if *byte == b' ' => encoded.push(space),
            _ if is_kept(*byte) => encoded.push(*byte),
            _ => encoded.extend([
                b'%',
                digits[usize::from(byte >> 4)],
                digits[usize::from(byte & 15)],
            ]),
        }
    }
    encoded
}

fn hex(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let pair = |byte: &u8| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
    value.iter().flat_map(pair).collect()
}

/// As most programs write it, as those that escape slashes do (PHP), and as those that escape for HTML do (Go).
fn json_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(value) else {
        return Vec::new();
    };
    let quoted = serde_json::Value::from(text).to_string();
    let plain = quoted[1..quoted.len() - 1].to_owned();
    let for_html = plain
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    let slashes = plain.replace('/', "\\/");
    [plain, for_html, slashes].map(String::into_bytes).into()
}

/// In single quotes with one of its own written in either usual way, in double quotes, and with a backslash before
/// whatever a shell would take for its own.
fn shell_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let replaced = |with: &[u8]| {
        let parts: Vec<&[u8]> = value.split(|byte| *byte == b'\'').collect();
        parts.join(with)
    };
    let escaped = |is_special: &dyn Fn(u8) -> bool| {
        let escape = |byte: &u8| {
            if is_special(*byte) {
                vec![b'\\', *byte]
            } else {
                vec![*byte]
            }
        };
        value.iter().flat_map(escape).collect::<Vec<u8>>()
    };
    vec![
        replaced(b"'\\''"),
        replaced(b"'\"'\"'"),
        escaped(&|byte| b"\\\"$`".contains(&byte)),
        escaped(&|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"_-./:=@%+,\n".contains(&byte)),
        escaped(&|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"_-./:@%+\n".contains(&byte)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(forms: &[Form], inside: &str) -> bool {
        forms.iter().any(|form| {
            inside
                .as_bytes()
                .windows(form.bytes.len())
                .any(|window| window == form.bytes)
        })
    }

    #[test]
    fn base64_is_known_wherever_the_secret_stands_in_it() {
        let secret = "s3cr>t?va~ue/+";
        let forms = all_forms(secret.as_bytes(), 1 << 10);
        for engine in [&STANDARD, &URL_SAFE] {
            for before in ["", "u", "us", "user:", "user:x"] {
                for behind in ["", "\n", "@host", "0123456"] {
                    let text = engine.encode(format!("{before}{secret}{behind}"));
                    assert!(has(&forms, &text), "{before}·{behind}: {text}");
                }
            }
        }
        assert!(!has(&forms, &STANDARD.encode("s3cr>t?va~uE/+")));
    }

    #[test]
    fn the_encodings_of_real_programs_are_known() {
        let forms = all_forms(b"it's a \"key\" & $more/\n<end>", 1 << 10);
        for (program, text) in [
            (
                "encodeURIComponent",
                "it's%20a%20%22key%22%20%26%20%24more%2F%0A%3Cend%3E",
            ),
            (
                "urllib.parse.quote",
                "it%27s%20a%20%22key%22%20%26%20%24more/%0A%3Cend%3E",
            ),
            (
                "urlencode of PHP",
                "it%27s+a+%22key%22+%26+%24more%2F%0A%3Cend%3E",
            ),
            (
                "JSON.stringify",
                "{\"a\":\"it's a \\\"key\\\" & $more/\\n<end>\"}",
            ),
            (
                "json.Marshal",
                "\"it's a \\\"key\\\" \\u0026 $more/\\n\\u003cend\\u003e\"",
            ),
            ("shlex.quote", "'it'\"'\"'s a \"key\" & $more/\n<end>'"),
            ("xxd -p", "69742773206120226b6579"),
            (
                "xxd -p",
                "6974277320612022 6b6579222026".replace(' ', "").as_str(),
            ),
        ] {
            let is_whole = program != "xxd -p";
            assert_eq!(has(&forms, text), is_whole, "{program}");
        }
        assert!(has(
            &forms,
            &String::from_utf8(hex(b"it's a \"key\" & $more/\n<end>", b"0123456789abcdef")).unwrap()
        ));
    }

    #[test]
    fn a_keys_frame_is_no_secret() {
        let line = "A".repeat(64);
        let key = format!("-----BEGIN PRIVATE KEY-----\n{line}\nQUJD\n-----END PRIVATE KEY-----\n");
        let found: Vec<_> = pem_lines(key.as_bytes())
            .into_iter()
            .map(|form| form.bytes)
            .collect();
        assert_eq!(found, [line.into_bytes()]);
        assert!(pem_lines(b"registry=https://registry.example/a/b/c/d/e/f/g/h\nx").is_empty());
    }

    #[test]
    fn of_a_long_secret_only_the_beginning_is_encoded() {
        let bytes: usize = all_forms(&vec![b'~'; 64 << 10], 1 << 10)
            .iter()
            .map(|form| form.bytes.len())
            .sum();
        assert!(bytes < (64 << 10) + (64 << 10), "{bytes}");
    }
}
