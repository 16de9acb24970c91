//! What is typed for the network policy: `none`, `public`, `host` or `allow:LIST`.

use core::fmt;
use core::str::FromStr;

use serde::Deserialize;

use crate::model::policy::allow_list::AllowList;
use crate::model::policy::allow_list::AllowListError;

/// The policy that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NetworkChoice {
    /// Nothing but the job's own loopback.
    None,
    /// Every public address.
    #[default]
    Public,
    /// The machine's own network, without any policy.
    Host,
    /// What is listed.
    Allow(AllowList),
}

/// A text that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// None of the four.
    #[error("`{0}` is no network policy: use none, public, host or allow:NAME[:PORT],…")]
    Unknown(String),
    /// The list of `allow:` is wrong.
    #[error("the list of `allow:` cannot be used: {0}")]
    List(#[from] AllowListError),
}

impl FromStr for NetworkChoice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, NoChoice> {
        match text {
            "none" => Ok(Self::None),
            "public" => Ok(Self::Public),
            "host" => Ok(Self::Host),
            _ => match text.strip_prefix("allow:") {
                Some(list) => Ok(Self::Allow(list.parse()?)),
                None => Err(NoChoice::Unknown(text.to_owned())),
            },
        }
    }
}

impl TryFrom<String> for NetworkChoice {
    type Error = NoChoice;

    fn try_from(text: String) -> Result<Self, NoChoice> {
        text.parse()
    }
}

impl fmt::Display for NetworkChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Public => formatter.write_str("public"),
            Self::Host => formatter.write_str("host"),
            Self::Allow(list) => write!(formatter, "allow:{list}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_read_and_written() {
        for text in ["none", "public", "host", "allow:*.corp.example:5432,db"] {
            let choice: NetworkChoice = text.parse().unwrap();
            let written = choice.to_string();
            assert_eq!(written.parse::<NetworkChoice>(), Ok(choice), "{text}");
        }
        assert_eq!("public".parse(), Ok(NetworkChoice::default()));
    }

    #[test]
    fn a_wrong_policy_says_which_there_are() {
        for (text, message) in [
            (
                "open",
                "`open` is no network policy: use none, public, host or allow:NAME[:PORT],…",
            ),
            (
                "",
                "`` is no network policy: use none, public, host or allow:NAME[:PORT],…",
            ),
            (
                "allow:a:x",
                "the list of `allow:` cannot be used: `a:x` has no port from 1 to 65535 behind its colon",
            ),
        ] {
            assert_eq!(text.parse::<NetworkChoice>().unwrap_err().to_string(), message);
        }
    }
}
