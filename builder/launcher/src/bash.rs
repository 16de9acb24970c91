//! The words that bash is given to start a process. Pure.
//!
//! The scripts have effects that buildpacks and users rely on (each word is evaluated once, then kept whole), so
//! they are the reference launcher's, character by character in what bash does with them.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

/// The arguments of bash, without its own name: read the profiles, go to the working folder, start the command.
///
/// Without arguments the command is itself a script; with arguments it and they are words. `name` is what the
/// launcher was called by and what the profiles see as `$0`.
pub(crate) fn arguments(
    profiles: &[PathBuf],
    working_dir: &Path,
    name: &OsStr,
    command: &[OsString],
    arguments: &[OsString],
) -> Vec<OsString> {
    let mut script = OsString::new();
    for profile in profiles {
        add_line(&mut script, "source", profile);
    }
    add_line(&mut script, "cd", working_dir);
    script.push(if arguments.is_empty() {
        r#"exec bash -c "$@""#.to_owned()
    } else {
        start_words(arguments.len())
    });

    let command = command.join(OsStr::new(" "));
    let mut words = vec!["-c".into(), script, name.to_owned(), command];
    words.extend_from_slice(arguments);
    words
}

fn add_line(script: &mut OsString, verb: &str, path: &Path) {
    for part in [
        OsStr::new(verb),
        OsStr::new(" \""),
        path.as_os_str(),
        OsStr::new("\"\n"),
    ] {
        script.push(part);
    }
}

/// A script that evaluates the command and each of its arguments, and runs the results as words.
fn start_words(argument_count: usize) -> String {
    let first = r#""$(eval echo \"$0\")""#.to_owned();
    let others = (1..=argument_count).map(|number| format!(r#""$(eval echo \"${{{number}}}\")""#));
    let words: Vec<String> = std::iter::once(first).chain(others).collect();
    format!(r#"exec bash -c '{}' "${{@:1}}""#, words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_alone_is_a_script() {
        let words = arguments(
            &[],
            Path::new("/workspace"),
            OsStr::new("web"),
            &["echo a; pwd".into()],
            &[],
        );
        assert_eq!(
            words,
            [
                "-c",
                "cd \"/workspace\"\nexec bash -c \"$@\"",
                "web",
                "echo a; pwd"
            ]
        );
    }

    #[test]
    fn a_command_with_arguments_is_words() {
        let profiles = ["/layers/a/b/profile.d/x.sh".into(), ".profile".into()];
        let words = arguments(
            &profiles,
            Path::new("/tmp/a b"),
            OsStr::new("/cnb/process/web"),
            &["echo".into(), "x".into()],
            &["$A".into(), "b c".into()],
        );
        let script = concat!(
            "source \"/layers/a/b/profile.d/x.sh\"\nsource \".profile\"\ncd \"/tmp/a b\"\n",
            r#"exec bash -c '"$(eval echo \"$0\")" "$(eval echo \"${1}\")" "$(eval echo \"${2}\")"' "${@:1}""#
        );
        assert_eq!(words, ["-c", script, "/cnb/process/web", "echo x", "$A", "b c"]);
    }
}
