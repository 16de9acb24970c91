//! URLs as messages may show them: without user, password, query and fragment.

/// `url` without what may be secret. What does not parse is cut at the first `?`, `#`, and before the last `@`.
pub fn redact(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut parsed) if !parsed.cannot_be_a_base() => {
            parsed.set_query(None);
            parsed.set_fragment(None);
            // These fail only for URLs that can have neither user nor password.
            let _no_user = parsed.set_username("");
            let _no_password = parsed.set_password(None);
            parsed.into()
        }
        _ => {
            let end = url.find(['?', '#']).unwrap_or(url.len());
            let shown = &url[..end];
            shown.rsplit('@').next().unwrap_or(shown).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left() {
        for (url, shown) in [
            (
                "https://user:secret@host.example/a/b?token=x#y",
                "https://host.example/a/b",
            ),
            ("https://token@host.example:8443/", "https://host.example:8443/"),
            ("http://user:secret@:1/?x", ":1/"),
            ("user:secret@host/path?x=y", "host/path"),
            ("https://host.example/v2/", "https://host.example/v2/"),
        ] {
            assert_eq!(redact(url), shown, "{url}");
        }
    }
}
