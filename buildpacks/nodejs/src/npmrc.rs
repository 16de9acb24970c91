//! What matters of the app's `.npmrc` to an install outside the app's folder.

/// Parts of the names of settings that let npm into a registry and do not change what it installs.
const CREDENTIALS: [&str; 5] = ["_auth", "_password", "username", "token", "email"];

/// Whether the setting `name` holds credentials, in a file or in the environment.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIALS.into_iter().any(|part| name.contains(part))
}

/// `text` without comments and credentials, so that a new token is no new setting.
pub(crate) fn without_credentials(text: &str) -> String {
    settings(text)
        .filter(|(name, _)| !is_credential(name))
        .flat_map(|(name, value)| [name, "=", value, "\n"])
        .collect()
}

/// The first setting whose value names a file relative to the app's folder.
pub(crate) fn setting_with_app_file(text: &str) -> Option<&str> {
    settings(text)
        .find(|(name, value)| {
            let is_file = name.ends_with("file") && !value.starts_with(['/', '~', '$']);
            is_file || value.starts_with("./") || value.starts_with("../") || value.contains("=./")
        })
        .map(|(name, _)| name)
}

fn settings(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with([';', '#']))
        .map(|line| line.split_once('=').unwrap_or((line, "")))
        .map(|(name, value)| (name.trim(), value.trim().trim_matches(['"', '\''])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_no_new_setting() {
        let with = |token: &str| {
            format!("; mine\n//a.example/:_authToken={token}\n_auth = {token}\nlegacy-peer-deps = true\n")
        };
        assert_eq!(without_credentials(&with("1")), "legacy-peer-deps=true\n");
        assert_eq!(without_credentials(&with("1")), without_credentials(&with("2")));
        assert_ne!(without_credentials("omit=dev"), without_credentials("omit=peer"));
    }

    #[test]
    fn files_of_the_app_are_found() {
        for (text, expected) in [
            ("cafile=ca.pem", Some("cafile")),
            ("cafile = \"./ca.pem\"", Some("cafile")),
            ("script-shell=../shell", Some("script-shell")),
            ("node-options=--require=./x.js", Some("node-options")),
            ("cafile=/etc/ssl/ca.pem", None),
            ("cafile=${HOME}/ca.pem", None),
            ("# cafile=ca.pem", None),
            ("registry=https://a.example/\nfund=false", None),
        ] {
            assert_eq!(setting_with_app_file(text), expected, "{text}");
        }
    }
}
