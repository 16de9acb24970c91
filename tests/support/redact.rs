//! What differs from run to run, replaced for snapshots: paths, ports, digests, commits, times.

use std::path::Path;

/// A message without what differs.
pub(crate) fn redact(text: &str, names: &[(&Path, &str)]) -> String {
    let mut text = text.to_owned();
    for (path, name) in names {
        text = text.replace(&path.display().to_string(), name);
    }
    let text = after(&text, "127.0.0.1:", char::is_numeric, "[PORT]");
    let text = after(&text, "localhost:", char::is_numeric, "[PORT]");
    let text = after(&text, "/tmp/.tmp", char::is_alphanumeric, "[RANDOM]");
    let text = after(&text, "machine-", char::is_alphanumeric, "[RANDOM]");
    let is_job = |c: char| c.is_ascii_digit() || c == '-';
    let text = after(&text, "build-", is_job, "[JOB]");
    after(&hexadecimals(&text), "[DIGEST].", is_job, "[JOB]")
}

/// Replaces what follows `lead` and is made of such characters.
fn after(text: &str, lead: &str, is_part: impl Fn(char) -> bool, name: &str) -> String {
    let mut parts = text.split(lead);
    let mut redacted = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        redacted.push_str(lead);
        let rest = part.trim_start_matches(&is_part);
        if rest.len() < part.len() {
            redacted.push_str(name);
        }
        redacted.push_str(rest);
    }
    redacted
}

/// Replaces digests and commits: 40 or more hexadecimal digits in a row.
fn hexadecimals(text: &str) -> String {
    let mut redacted = String::new();
    let mut word = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_hexdigit() {
            word.push(character);
            continue;
        }
        redacted.push_str(if word.len() >= 40 { "[DIGEST]" } else { &word });
        word.clear();
        redacted.push(character);
    }
    redacted.pop();
    redacted
}
