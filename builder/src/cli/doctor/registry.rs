//! Whether an image may be pushed to a registry: asked as a build asks before any work.

use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::error::hint::hint;
use crate::http::error::HttpError;
use crate::model::failure::Failure as _;
use crate::model::reference::ImageReference;
use crate::model::timestamp::Timestamp;
use crate::registry::client::Registry;
use crate::registry::error::RegistryError;

/// What a registry said.
#[derive(Debug)]
pub(super) struct Answer {
    name: String,
    may_push: Result<(), RegistryError>,
    /// What it takes for the time.
    pub(super) time: Option<Timestamp>,
}

/// Asks. One that cannot be reached is not asked for the time.
pub(super) async fn ask(registry: &Registry, reference: &ImageReference) -> Answer {
    let may_push = registry.check_push(reference).await;
    let time = match &may_push {
        Err(RegistryError::Unreachable(_)) => None,
        _ => registry.time(reference).await.ok().flatten(),
    };
    Answer {
        name: reference.name(),
        may_push,
        time,
    }
}

/// The row; an error is of the settings for HTTP.
pub(super) fn row(answer: Result<&Answer, &HttpError>) -> Row {
    let name = "push";
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Row::new(name, State::Fail, error.to_string()),
    };
    match &answer.may_push {
        Ok(()) => Row::new(
            name,
            State::Ok,
            format!("images may be pushed to {}", answer.name),
        ),
        Err(error) => {
            let row = Row::new(name, State::Fail, error.to_string());
            match hint(error.facts().code) {
                Some(hint) => row.cure(format!("pushing to {}", answer.name), format!("# {hint}")),
                None => row,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error::Action;

    #[test]
    fn a_refusal_is_told_with_its_cure() {
        let answer = |may_push| Answer {
            name: "r.example/app".to_owned(),
            may_push,
            time: None,
        };
        assert_eq!(row(Ok(&answer(Ok(())))).state, State::Ok);
        let refused = row(Ok(&answer(Err(RegistryError::Unauthorized {
            action: Action::Push,
            name: "r.example/app".to_owned(),
            says: "UNAUTHORIZED".to_owned(),
        }))));
        assert_eq!(refused.state, State::Fail);
        assert!(refused.cures[0].lines.contains("docker login"), "{refused:?}");
    }
}
