//! What to do about each failure, by its code. `docs/errors.md` has the same codes.

/// What to do, in one sentence; none where the message says it all.
pub fn hint(code: &str) -> Option<&'static str> {
    let found = HINTS.iter().find(|(known, _)| *known == code);
    found.map(|(_, hint)| *hint).filter(|hint| !hint.is_empty())
}

/// Every code with its cure.
pub const HINTS: &[(&str, &str)] = &[
];
