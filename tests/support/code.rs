//! Rust code as text, without its comments and without what stands in quotes; and words in it.

/// A program's text without comments and without what stands in quotes.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if let Some(end) =
            raw_text_end(rest).filter(|_| !code.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            end
        } else if first == '"' {
            quoted_length(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted_length(rest, '\'')
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    code
}

/// Whether a word or path stands in the code, not as a part of another word.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && (word.ends_with('!') || !after.is_some_and(is_part))
    })
}

/// The length of a block comment, with those inside it.
fn comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let step = if text[at..].starts_with("/*") {
            depth += 1;
            2
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            2
        } else {
            next.len_utf8()
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of `r"…"` or `r#"…"#`, if the text begins with one.
fn raw_text_end(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let marks = after.len() - after.trim_start_matches('#').len();
    let inside = after[marks..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(marks));
    Some(
        inside
            .find(&end)
            .map_or(text.len(), |at| 1 + marks + 1 + at + end.len()),
    )
}

/// The length of a text in quotes, in which a backslash hides the next character.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_hidden = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_hidden => is_hidden = false,
            '\\' => is_hidden = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(text: &str) -> bool {
    text[1..].starts_with('\\') || text.chars().nth(2) == Some('\'')
}

#[test]
fn words_in_comments_and_texts_are_not_code() {
    let text = "//! tokio\nuse a::b; /* git2 /* nested */ git2 */ let c = 'x'; // git2\nf(\"tokio \\\" git2\", r#\"git2 \" git2\"#, b'\"', &'a x);";
    let code = code_of(text);
    for word in ["tokio", "git2", "nested"] {
        assert!(!has_word(&code, word), "{code}");
    }
    assert!(has_word(&code, "a::b") && has_word(&code, "'a x"), "{code}");
    assert!(has_word("std::env::var(x)", "env::var") && !has_word("std::env::vars()", "env::var"));
    assert!(
        has_word("print!(x)", "print!")
            && !has_word("eprint!(x)", "print!")
            && !has_word("unsafe_code", "unsafe")
    );
}
