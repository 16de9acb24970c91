//! `WWW-Authenticate`: what a registry asks for (RFC 9110 §11.6.1; Docker's token specification).

/// One challenge that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from the server at `realm`.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// The name by which it knows the registry.
        service: Option<String>,
        /// What the refused request needs.
        scope: Option<String>,
    },
}

/// The best challenge among all headers: a token is narrower than a password.
pub(super) fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut challenges: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = challenges
        .iter()
        .position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    match bearer {
        Some(position) => Some(challenges.swap_remove(position)),
        None => challenges.into_iter().next(),
    }
}

/// All challenges of one header that we can answer.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for item in items(header) {
        match item {
            Item::Scheme(scheme) => found.push((scheme.to_ascii_lowercase(), Vec::new())),
            Item::Parameter(key, value) => {
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((key.to_ascii_lowercase(), value));
                }
            }
        }
    }
    found
        .into_iter()
        .filter_map(|(scheme, parameters)| challenge(&scheme, &parameters))
        .collect()
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let value = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: value("realm")?,
            service: value("service"),
            scope: value("scope"),
        }),
        _ => None,
    }
}

#[derive(Debug, PartialEq)]
enum Item {
    Scheme(String),
    Parameter(String, String),
}

fn items(header: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let spaced = after.trim_start();
        match spaced.strip_prefix('=') {
            // Padding of a token68, as in `Negotiate abc=`, is no parameter that we read.
            Some(value) if !word.is_empty() => {
                let (value, after) = value_of(value.trim_start());
                items.push(Item::Parameter(word.to_owned(), value));
                rest = after;
            }
            Some(after) => rest = after,
            None => {
                items.push(Item::Scheme(word.to_owned()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    items
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
        }
    }

    #[test]
    fn every_form_is_read() {
        let docker = r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#;
        let full = bearer(
            "https://auth.example/token",
            Some("registry"),
            Some("repository:a/b:pull,push"),
        );
        for (headers, expected) in [
            (vec![docker], Some(full.clone())),
            (vec![r#"Basic realm="x, y=z""#, docker], Some(full.clone())),
            (
                vec![r#"Negotiate abc==, Basic realm="x", Bearer realm="https://a/t""#],
                Some(bearer("https://a/t", None, None)),
            ),
            (
                vec![r#"bearer Realm = "https://a/\"t" , service=s"#],
                Some(bearer("https://a/\"t", Some("s"), None)),
            ),
            (vec![r#"Basic realm="x""#], Some(Challenge::Basic)),
            (vec!["Basic"], Some(Challenge::Basic)),
            (vec!["Bearer"], None),
            (vec!["Digest realm=x"], None),
            (vec![""], None),
            (vec![], None),
        ] {
            assert_eq!(best(headers.iter().copied()), expected, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_to_its_end(header in ".{0,60}", likely in "(Bearer|Basic|,| |=|\"|\\\\|realm|a){0,20}") {
            let _read = best([header.as_str(), likely.as_str()].into_iter());
        }
    }
}
