//! A process's arguments as a message may show them: short, on one line, and without what is most likely secret. What a
//! build knows to be secret is hidden later, in the whole message; for that an argument is shown whole or not at all. Pure.

/// The most characters that are shown.
const CHARACTERS_MAX: usize = 60;
/// What stands for what is left out.
const LEFT_OUT: &str = "…";
/// What the name of an option or variable has in it whose value is secret.
const SECRET_NAMES: [&str; 9] = [
    "token",
    "passw",
    "secret",
    "apikey",
    "api-key",
    "api_key",
    "auth",
    "credential",
    "private",
];

/// The arguments with spaces between.
pub(crate) fn shown(arguments: &[String]) -> String {
    let mut text = String::new();
    let mut hides_next = false;
    for argument in arguments {
        let argument = if hides_next {
            LEFT_OUT.to_owned()
        } else {
            without_secret(argument)
        };
        hides_next = argument.starts_with('-') && !argument.contains('=') && names_secret(&argument);
        let gap = usize::from(!text.is_empty());
        // Room for the sign that something is left out.
        if text.chars().count() + gap + argument.chars().count() + 2 > CHARACTERS_MAX {
            text.push_str(if text.is_empty() { LEFT_OUT } else { " …" });
            break;
        }
        if gap == 1 {
            text.push(' ');
        }
        text.push_str(&argument);
    }
    text
}

/// Text without what would move a terminal's cursor.
pub(crate) fn plain(text: &str) -> String {
    let sign = |character: char| if character.is_control() { '?' } else { character };
    text.chars().map(sign).collect()
}

fn without_secret(argument: &str) -> String {
    if let Some((name, _)) = argument.split_once('=')
        && names_secret(name)
    {
        return format!("{name}={LEFT_OUT}");
    }
    if let Some((scheme, rest)) = argument.split_once("://") {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        if let Some(at) = rest[..end].rfind('@') {
            return format!("{scheme}://{LEFT_OUT}{}", &rest[at..]);
        }
    }
    // A header of curl's, most often.
    match argument.split_once(": ") {
        Some((name, _)) if names_secret(name) => format!("{name}: {LEFT_OUT}"),
        _ => argument.to_owned(),
    }
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        shown(&arguments)
    }

    #[test]
    fn what_is_long_is_left_out_in_whole_arguments() {
        assert_eq!(of(&["npm", "ci"]), "npm ci");
        assert_eq!(of(&["sh", "-c", &"x".repeat(70), "y"]), "sh -c …");
        assert_eq!(of(&[&"x".repeat(70)]), "…");
        let text = of(&["make"; 40]);
        assert!(text.chars().count() <= 60 && text.ends_with("make …"), "{text}");
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn what_looks_like_a_secret_is_left_out() {
        for (arguments, text) in [
            (&["npm", "--_authToken=s3cret"][..], "npm --_authToken=…"),
            (&["tool", "--password", "s3cret", "go"], "tool --password … go"),
            (&["env", "API_KEY=s3cret", "go"], "env API_KEY=… go"),
            (
                &["git", "clone", "https://me:s3cret@forge.example/a"],
                "git clone https://…@forge.example/a",
            ),
            (
                &["curl", "-H", "Authorization: Bearer s3cret"],
                "curl -H Authorization: …",
            ),
        ] {
            assert_eq!(of(arguments), text);
        }
    }

    #[test]
    fn a_terminal_is_not_spoken_to() {
        assert_eq!(plain("a\u{1b}[2J\nb"), "a?[2J?b");
    }
}
