//! Checks that every code of a failure in the sources has a cure and a line in `docs/errors.md`, and no other has.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::error::hint::HINTS;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The constructors of `Facts`: kind, and whether trying again may help.
const CONSTRUCTORS: [(&str, &str, bool); 4] = [
    ("Facts::user(", "user", false),
    ("Facts::platform(", "platform", false),
    ("Facts::temporary(", "platform", true),
    ("Facts::bug(", "bug", false),
];

/// What the sources say of one code.
#[derive(Debug, Default)]
struct Use {
    kinds: BTreeSet<String>,
    again: BTreeSet<bool>,
}

/// One line of the table in `docs/errors.md`.
struct Row {
    kinds: BTreeSet<String>,
    again: String,
    cure: String,
}

#[test]
fn every_code_has_a_cure_and_a_line_in_the_documents() {
    let used = used_codes();
    let rows = rows();
    assert!(used.len() > 50, "the codes were not found: {used:?}");
    let mut wrong = Vec::new();
    for (code, found) in &used {
        match HINTS.iter().find(|(known, _)| known == code) {
            None => wrong.push(format!("`{code}` is not in HINTS")),
            Some((_, cure)) => wrong.extend(rows.get(code).map_or_else(
                || Some(format!("`{code}` is not in docs/errors.md")),
                |row| row.differs_from(code, found, cure),
            )),
        }
    }
    let known = HINTS
        .iter()
        .map(|(code, _)| (*code).to_owned())
        .chain(rows.keys().cloned());
    wrong.extend(
        known
            .filter(|code| !used.contains_key(code))
            .map(|code| format!("`{code}` is listed but never used")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_code_is_listed_twice_and_every_cure_is_one_sentence() {
    let codes: BTreeSet<&str> = HINTS.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes.len(), HINTS.len());
    for (code, cure) in HINTS {
        assert!(!cure.ends_with('.') && !cure.contains('\n'), "{code}: {cure}");
        assert!(!cure.starts_with(char::is_uppercase), "{code}: {cure}");
    }
}

impl Row {
    fn differs_from(&self, code: &str, found: &Use, cure: &str) -> Option<String> {
        let again = match (found.again.contains(&true), found.again.contains(&false)) {
            (true, true) => "sometimes",
            (true, false) => "yes",
            (false, true) => "no",
            // Made out of another failure's facts.
            (false, false) => self.again.as_str(),
        };
        if !found.kinds.is_empty() && self.kinds != found.kinds {
            return Some(format!(
                "`{code}` is of kind {:?}, docs/errors.md says {:?}",
                found.kinds, self.kinds
            ));
        }
        if self.again != again {
            return Some(format!(
                "`{code}`: trying again helps {again}, docs/errors.md says {}",
                self.again
            ));
        }
        (!cure.is_empty() && self.cure != cure)
            .then(|| format!("`{code}` has another cure in docs/errors.md"))
    }
}

fn rows() -> BTreeMap<String, Row> {
    let text = fs::read_to_string(Path::new(ROOT).join("../docs/errors.md")).unwrap();
    let (_, table) = text.split_once("\n## Codes\n").unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let code = cells.first()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let kinds = cells.get(1)?.split(", ").map(str::to_owned).collect();
        Some((
            code,
            Row {
                kinds,
                again: (*cells.get(2)?).to_owned(),
                cure: (*cells.get(4)?).to_owned(),
            },
        ))
    };
    table.lines().filter_map(row).collect()
}

fn used_codes() -> BTreeMap<String, Use> {
    let mut used: BTreeMap<String, Use> = BTreeMap::new();
    for file in rust_files(&Path::new(ROOT).join("src")) {
        // Where the constructors are made, and where codes are told by name.
        if file.ends_with("model/failure.rs")
            || file.parent().is_some_and(|folder| folder.ends_with("src/error")) && !file.ends_with("mod.rs")
        {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (constructor, kind, again) in CONSTRUCTORS {
            for region in regions(code, constructor, ['(', ')']) {
                for found in codes_in(region) {
                    let entry = used.entry(found).or_default();
                    entry.kinds.insert(kind.to_owned());
                    entry.again.insert(again);
                }
            }
        }
        for region in regions(code, "=> Facts {", ['{', '}']) {
            for found in codes_in(region) {
                used.entry(found).or_default();
            }
        }
    }
    used
}

/// The balanced texts that begin with `opening`.
fn regions<'a>(text: &'a str, opening: &'a str, [open, close]: [char; 2]) -> impl Iterator<Item = &'a str> {
    text.match_indices(opening).map(move |(start, _)| {
        let rest = &text[start + opening.len()..];
        let mut depth = 1;
        let end = rest.char_indices().find(|(_, letter)| {
            depth += i32::from(*letter == open) - i32::from(*letter == close);
            depth == 0
        });
        &rest[..end.map_or(rest.len(), |(end, _)| end)]
    })
}

/// The texts in quotes that look like a code.
fn codes_in(region: &str) -> Vec<String> {
    let is_code =
        |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    region
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(is_code)
        .map(str::to_owned)
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
