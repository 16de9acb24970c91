//! A command that failed: what to say, what to do about it, and the exit code.

use std::borrow::Cow;

use crate::error::BuildError;
use crate::error::exit_code;
use crate::error::hint::hint;
use crate::model::failure::Facts;
use crate::model::failure::Failure;

/// A command that failed.
#[derive(Debug)]
pub struct CommandError {
    /// What failed, on what, and why.
    pub message: String,
    /// What to do.
    pub hint: Option<Cow<'static, str>>,
    /// Kind and stable code.
    pub facts: Facts,
    /// The process's exit code.
    pub exit_code: u8,
}

impl CommandError {
    /// A failure outside of a build; `otherwise` is the exit code where its own code has none.
    pub fn of(failure: &dyn Failure, otherwise: u8) -> Self {
        let facts = failure.facts();
        Self {
            message: failure.to_string(),
            hint: hint(facts.code).map(Cow::Borrowed),
            facts,
            exit_code: exit_code(facts, otherwise),
        }
    }

    /// The same with a better hint, if there is one.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Self {
            hint: hint.map(Cow::Owned).or(self.hint),
            ..self
        }
    }

    /// What was typed cannot be meant.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint("usage").map(Cow::Borrowed),
            facts: Facts::user("usage"),
            exit_code: 2,
        }
    }
}

impl From<BuildError> for CommandError {
    fn from(error: BuildError) -> Self {
        Self {
            exit_code: error.exit_code(),
            ..Self::of(&error, 1)
        }
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::usage(format!("{error:#}"))
    }
}

/// A failure of any part that a command uses outside of a build.
macro_rules! from_failures {
    ($($failure:ty => $code:literal),* $(,)?) => {
        $(impl From<$failure> for CommandError {
            fn from(error: $failure) -> Self {
                Self::of(&error, $code)
            }
        })*
    };
}

from_failures! {
    crate::http::error::HttpError => 1,
    crate::store::error::StoreError => 1,
    crate::store::embedded::EmbeddedError => 1,
    crate::sandbox::error::SandboxError => 77,
    crate::sandbox::job::JobError => 1,
    crate::base::error::BaseError => 1,
    crate::model::reference::ReferenceError => 2,
    crate::model::output::OutputError => 2,
    crate::model::source::SourceError => 2,
    crate::model::secret::SecretError => 2,
    crate::oci::layout::LayoutError => 1,
    crate::registry::error::RegistryError => 1,
    crate::network::publish::PublishError => 1,
    crate::network::gateway::GatewayError => 1,
    crate::cli::inspect::image::ImageError => 1,
    crate::cli::report::ReportError => 1,
    crate::cli::base::NoBase => 1,
    crate::cli::man::ManualUnwritable => 1,
    crate::oci::config::ConfigError => 1,
    crate::store::copy::CopyError => 1,
}
