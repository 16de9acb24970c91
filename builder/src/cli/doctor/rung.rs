//! The rung that a build would run on, decided by the code that decides it for a build.

use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::model::rung::Rung;
use crate::model::rung::RungChoice;
use crate::sandbox::error::SandboxError;
use crate::sandbox::ladder;
use crate::sandbox::ladder::Climbed;

/// The row, and the rung if one may be used. `origin` says who asks for a rung; `rows` are those of the things that a
/// sandbox is made of.
pub(super) fn row(climbed: &Climbed, choice: RungChoice, origin: &str, rows: &[Row]) -> (Row, Option<Rung>) {
    let name = "rung";
    let mut wanted = Vec::new();
    if let Some(exactly) = choice.exactly {
        wanted.push(format!("`{exactly}` is asked for by {origin}"));
    }
    if let Some(minimum) = choice.minimum {
        wanted.push(format!("`{minimum}` is the configured minimum"));
    }
    let wanted = if wanted.is_empty() {
        String::new()
    } else {
        format!(" ({})", wanted.join("; "))
    };
    match ladder::choose(climbed, choice) {
        Ok(ground) => {
            let row = Row::new(name, State::Ok, format!("{}{wanted}", ground.words()));
            (with_ways_up(row, climbed, rows), Some(ground.rung()))
        }
        Err(SandboxError::Forbidden { what, why, .. }) => {
            let row = Row::new(name, State::Fail, format!("{what}: {why}{wanted}"));
            (with_ways_up(row, climbed, rows), None)
        }
        Err(other) => (Row::new(name, State::Fail, other.to_string()), None),
    }
}

/// What the ladder itself says of the rungs above, but for what another row says with more exact cures.
fn with_ways_up(row: Row, climbed: &Climbed, rows: &[Row]) -> Row {
    let is_told = |why: &str| {
        rows.iter()
            .any(|row| !row.cures.is_empty() && row.found.contains(why))
    };
    let untold = climbed.missing.iter().filter(|missing| !is_told(&missing.why));
    untold.fold(row, |row, missing| {
        row.cure(
            format!("for `{}`: {} ({})", missing.rung, missing.what, missing.why),
            missing.cure.clone(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::identity::Identity;
    use crate::sandbox::ladder::Ground;
    use crate::sandbox::ladder::Missing;
    use crate::sandbox::ladder::Proc;
    use crate::sandbox::ladder::Trees;
    use crate::sandbox::ladder::Walls;

    fn climbed() -> Climbed {
        Climbed {
            best: Some(Ground {
                identity: Identity::Single { uid: 1000, gid: 1000 },
                proc: Proc::Own,
                trees: Trees::Overlay,
                walls: Walls::Namespaces,
            }),
            missing: vec![Missing {
                rung: Rung::Rootless,
                what: "a plain user needs subordinate ids".to_owned(),
                why: "there are none".to_owned(),
                cure: "usermod".to_owned(),
            }],
        }
    }

    #[test]
    fn a_minimum_that_is_not_reached_fails() {
        let choice = RungChoice {
            exactly: None,
            minimum: Some(Rung::Rootless),
        };
        let (row, rung) = row(&climbed(), choice, "default", &[]);
        assert_eq!((row.state, rung), (State::Fail, None));
        assert!(
            row.found.contains("`rootless` is the configured minimum"),
            "{row:?}"
        );
        assert_eq!(row.cures[0].lines, "usermod");
    }

    #[test]
    fn the_best_rung_is_told_with_the_way_up() {
        let (best, rung) = row(&climbed(), RungChoice::default(), "default", &[]);
        assert_eq!((best.state, rung), (State::Ok, Some(Rung::SingleId)));
        assert!(best.cures[0].gives.starts_with("for `rootless`"), "{best:?}");
        let choice = RungChoice {
            exactly: Some(Rung::OuterProc),
            minimum: None,
        };
        let (asked, rung) = row(&climbed(), choice, "option --sandbox", &[]);
        assert_eq!((asked.state, rung), (State::Ok, Some(Rung::OuterProc)));
        assert!(asked.found.contains("asked for by option --sandbox"), "{asked:?}");
    }

    #[test]
    fn what_another_row_cures_is_not_told_twice() {
        let told = Row::new("ids", State::Warn, "there are none for anna").cure("ids", "the exact line");
        let (rung, _) = row(&climbed(), RungChoice::default(), "default", &[told]);
        assert!(rung.cures.is_empty(), "{rung:?}");
    }

    #[test]
    fn without_any_rung_it_fails() {
        let nothing = Climbed {
            best: None,
            ..climbed()
        };
        let (row, rung) = row(&nothing, RungChoice::default(), "default", &[]);
        assert_eq!((row.state, rung), (State::Fail, None));
    }
}
