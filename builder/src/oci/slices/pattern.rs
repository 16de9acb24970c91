//! The patterns of slices: Go's `filepath.Match` and `filepath.Clean`, which the reference uses (cnb §5.4).

/// A pattern that is malformed: an open class, an empty range, a lone backslash at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Whether the whole of `name` matches. `*` and `?` do not match `/`; `**` is just `*`; `\` escapes.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, Malformed> {
    let (mut pattern, mut name) = (pattern, name);
    'pattern: while !pattern.is_empty() {
        let (has_star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if has_star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        if let Some(left) = match_chunk(chunk, name)?
            && (left.is_empty() || !pattern.is_empty())
        {
            name = left;
            continue;
        }
        if has_star {
            let reach = name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
            for start in 1..=reach {
                match match_chunk(chunk, &name[start..])? {
                    Some(left) if left.is_empty() || !pattern.is_empty() => {
                        name = left;
                        continue 'pattern;
                    }
                    _ => {}
                }
            }
        }
        // No match; but a fault in what is left of the pattern is still told.
        while !pattern.is_empty() {
            let (_, chunk, rest) = next_chunk(pattern);
            match_chunk(chunk, b"")?;
            pattern = rest;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Whether stars come first, the text up to the next star, and the rest.
fn next_chunk(pattern: &[u8]) -> (bool, &[u8], &[u8]) {
    let stars = pattern.iter().take_while(|&&byte| byte == b'*').count();
    let pattern = &pattern[stars..];
    let (mut end, mut in_class) = (0, false);
    while end < pattern.len() {
        match pattern[end] {
            b'\\' => end += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        end += 1;
    }
    let end = end.min(pattern.len());
    (stars > 0, &pattern[..end], &pattern[end..])
}

/// What is left of `name` after a chunk without stars. The whole chunk is read, to find its faults, even after the
/// first difference.
fn match_chunk<'name>(chunk: &[u8], name: &'name [u8]) -> Result<Option<&'name [u8]>, Malformed> {
    let (mut chunk, mut left) = (chunk, Some(name));
    while let Some(&first) = chunk.first() {
        left = left.filter(|left| !left.is_empty());
        match first {
            b'[' => {
                let character = left.map(first_character);
                let (is_in, rest) = match_class(&chunk[1..], character.map(|(character, _)| character))?;
                chunk = rest;
                left = left
                    .zip(character)
                    .filter(|_| is_in)
                    .map(|(left, (_, length))| &left[length..]);
            }
            b'?' => {
                left = left
                    .filter(|left| left[0] != b'/')
                    .map(|left| &left[first_character(left).1..]);
                chunk = &chunk[1..];
            }
            _ => {
                chunk = if first == b'\\' { &chunk[1..] } else { chunk };
                let literal = *chunk.first().ok_or(Malformed)?;
                left = left.filter(|left| left[0] == literal).map(|left| &left[1..]);
                chunk = &chunk[1..];
            }
        }
    }
    Ok(left)
}

/// Whether a character is in the class that follows `[`, and what comes after the `]`.
fn match_class(class: &[u8], character: Option<u32>) -> Result<(bool, &[u8]), Malformed> {
    let is_negated = class.first() == Some(&b'^');
    let mut class = if is_negated { &class[1..] } else { class };
    let (mut is_in, mut ranges) = (false, 0);
    loop {
        if ranges > 0 && class.first() == Some(&b']') {
            return Ok((is_in != is_negated, &class[1..]));
        }
        let (low, rest) = class_character(class)?;
        let (high, rest) = if rest[0] == b'-' {
            class_character(&rest[1..])?
        } else {
            (low, rest)
        };
        is_in |= character.is_some_and(|character| (low..=high).contains(&character));
        class = rest;
        ranges += 1;
    }
}

/// A character of a class, perhaps escaped; something must follow it.
fn class_character(class: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let class = match class.first() {
        None | Some(b'-' | b']') => return Err(Malformed),
        Some(b'\\') => &class[1..],
        Some(_) => class,
    };
    if class.is_empty() {
        return Err(Malformed);
    }
    let (character, length) = first_character(class);
    let is_broken = character == u32::from(char::REPLACEMENT_CHARACTER) && length == 1;
    let rest = &class[length..];
    if is_broken || rest.is_empty() {
        Err(Malformed)
    } else {
        Ok((character, rest))
    }
}

/// The first character and its length in bytes; a byte that begins none is the replacement character, of length 1.
fn first_character(text: &[u8]) -> (u32, usize) {
    let start = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(start) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or(""),
    };
    let character = valid.chars().next();
    character.map_or((u32::from(char::REPLACEMENT_CHARACTER), 1), |found| {
        (u32::from(found), found.len_utf8())
    })
}

/// The shortest equal path: no empty or `.` components, `..` taken back where it can be.
pub(super) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match (part, parts.last()) {
            ("..", Some(&last)) if last != ".." => {
                parts.pop();
            }
            ("..", _) if is_absolute => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "a", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*/b", "a/c/b", Ok(false)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Ok(false)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[e-g]", "abc", Ok(false)),
            ("ab[^c]", "abc", Ok(false)),
            ("ab[^e-g]", "abc", Ok(true)),
            ("a\\*b", "a*b", Ok(true)),
            ("a\\*b", "ab", Ok(false)),
            ("a?b", "a☺b", Ok(true)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("a???b", "a☺b", Ok(false)),
            ("[a-ζ]*", "α", Ok(true)),
            ("*[a-ζ]", "A", Ok(false)),
            ("a?b", "a/b", Ok(false)),
            ("[\\]a]", "]", Ok(true)),
            ("[\\-x]", "-", Ok(true)),
            ("[]a]", "]", Err(Malformed)),
            ("[-]", "-", Err(Malformed)),
            ("[x-]", "x", Err(Malformed)),
            ("[a-b-c]", "a", Err(Malformed)),
            ("[", "a", Err(Malformed)),
            ("[^bc", "a", Err(Malformed)),
            ("a[", "a", Err(Malformed)),
            ("a[", "ab", Err(Malformed)),
            ("a[", "x", Err(Malformed)),
            ("a/b[", "x", Err(Malformed)),
            ("\\", "a", Err(Malformed)),
            ("*x", "xxx", Ok(true)),
            ("", "", Ok(true)),
            ("**/y", "a/y", Ok(true)),
            ("**/y", "a/b/y", Ok(false)),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, cleaned) in [
            ("", "."),
            ("./b.txt", "b.txt"),
            ("static/", "static"),
            ("a//b/./c/..", "a/b"),
            ("../a/../../b", "../../b"),
            ("/../a", "/a"),
        ] {
            assert_eq!(clean(path), cleaned);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in proptest::collection::vec(proptest::sample::select(b"a*?[]^-\\/\xc3\xa9".to_vec()), 0..12), name in ".{0,8}") {
            let _either = matches(&pattern, name.as_bytes());
        }
    }
}
