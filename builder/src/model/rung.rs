//! The ladder of sandboxes: how much of one the machine allows, the strongest first.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// A rung of the ladder. What is above in this list is greater: it holds more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// No namespaces at all: another root folder, another user, filters, and a list of what may be touched.
    Chroot,
    /// Namespaces without a user namespace: root inside is root of the machine, held by filters and capabilities alone.
    NoUserNamespace,
    /// Every namespace, but no overlay: the trees of the job are copies, which takes seconds and room.
    NoOverlay,
    /// Every namespace, but the job sees the `/proc` of who runs packhorse: names of processes, nothing more.
    OuterProc,
    /// Every namespace; all ids inside are one user, who is packhorse's own.
    SingleId,
    /// Every namespace and a range of ids; packhorse's own user is not among them.
    Rootless,
    /// Every namespace, and a range of ids for each job alone.
    Full,
}

impl Rung {
    /// Every rung, the strongest first.
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Rootless,
        Self::SingleId,
        Self::OuterProc,
        Self::NoOverlay,
        Self::NoUserNamespace,
        Self::Chroot,
    ];

    /// The name on the command line and in reports: `single-id`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Rootless => "rootless",
            Self::SingleId => "single-id",
            Self::OuterProc => "outer-proc",
            Self::NoOverlay => "no-overlay",
            Self::NoUserNamespace => "no-user-namespace",
            Self::Chroot => "chroot",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which rung is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RungChoice {
    /// Exactly this one; none: the strongest that the machine allows.
    pub exactly: Option<Rung>,
    /// None below this one; none: any will do.
    pub minimum: Option<Rung>,
}

/// A text that names no rung.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no rung: use {names}", names = Rung::ALL.map(Rung::name).join(", "))]
pub struct NoRung(String);

impl FromStr for Rung {
    type Err = NoRung;

    fn from_str(text: &str) -> Result<Self, NoRung> {
        let named = Self::ALL.into_iter().find(|rung| rung.name() == text);
        named.ok_or_else(|| NoRung(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_goes_from_strong_to_weak_and_every_name_is_read_again() {
        assert!(Rung::ALL.is_sorted_by(|one, next| one > next));
        for rung in Rung::ALL {
            assert_eq!(rung.name().parse(), Ok(rung));
            assert_eq!(
                serde_json::to_value(rung).unwrap(),
                serde_json::Value::from(rung.name())
            );
        }
        assert_eq!(
            "best".parse::<Rung>().unwrap_err().to_string(),
            "`best` is no rung: use full, rootless, single-id, outer-proc, no-overlay, no-user-namespace, chroot"
        );
    }
}
