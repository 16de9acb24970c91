//! What the network policy refused to a job, as log, report and hint tell it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

/// One kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// `id@version` of the buildpack that asked; none during detection, where all run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buildpack: Option<String>,
    /// The name that was asked for, else the literal address; none for what is counted together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port; none if only a name was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Why: half a sentence.
    pub reason: String,
    /// How often.
    pub count: u64,
}

impl Refused {
    /// `host:port` as `--network allow:` takes it.
    pub fn place(&self) -> String {
        let host = self.host.as_deref().unwrap_or("other hosts");
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        self.port
            .map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }
}

/// Places that one hint names.
const PLACES_MAX: usize = 3;

/// Where a buildpack wanted to go and was refused.
pub fn places(refused: &[Refused], buildpack: &str) -> Vec<String> {
    let own = refused
        .iter()
        .filter(|one| one.buildpack.as_deref() == Some(buildpack));
    let places: BTreeSet<String> = own.map(Refused::place).collect();
    places.into_iter().collect()
}

/// What to do when a buildpack failed to which something was refused; none if nothing was.
pub fn hint(refused: &[Refused], buildpack: &str) -> Option<String> {
    let first = refused
        .iter()
        .find(|one| one.buildpack.as_deref() == Some(buildpack))?;
    let places = places(refused, buildpack);
    let shown = places
        .iter()
        .take(PLACES_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let mut text = format!("`bin/build` of {buildpack} asked for {shown}");
    if places.len() > PLACES_MAX {
        let _infallible = write!(text, " and {} more", places.len() - PLACES_MAX);
    }
    let allowed = places
        .iter()
        .take(PLACES_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(",");
    let _infallible = write!(
        text,
        ", which the policy refuses ({}): allow it with `--network allow:{allowed},…`, or in `[network]` of \
         packhorse.toml",
        first.reason
    );
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(buildpack: &str, host: &str, port: Option<u16>) -> Refused {
        Refused {
            buildpack: Some(buildpack.to_owned()),
            host: Some(host.to_owned()),
            port,
            reason: "it is a private address".to_owned(),
            count: 1,
        }
    }

    #[test]
    fn the_hint_names_the_buildpack_what_it_asked_for_and_what_to_do() {
        let all = [
            refused("a@1", "db.corp", Some(5432)),
            refused("a@1", "db.corp", Some(5432)),
            refused("b@1", "other", Some(1)),
        ];
        assert_eq!(
            hint(&all, "a@1").unwrap(),
            "`bin/build` of a@1 asked for db.corp:5432, which the policy refuses (it is a private address): \
             allow it with `--network allow:db.corp:5432,…`, or in `[network]` of packhorse.toml"
        );
        assert_eq!(hint(&all, "c@1"), None);
        let many: Vec<Refused> = (1..=5).map(|port| refused("a@1", "::1", Some(port))).collect();
        assert_eq!(
            hint(&many, "a@1").unwrap(),
            "`bin/build` of a@1 asked for [::1]:1, [::1]:2, [::1]:3 and 2 more, which the policy refuses (it is a \
             private address): allow it with `--network allow:[::1]:1,[::1]:2,[::1]:3,…`, or in `[network]` of \
             packhorse.toml"
        );
    }
}
