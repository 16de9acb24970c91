//! The clock: certificates and Debian's archive are checked against it.

use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::model::timestamp::Timestamp;

/// How far the clock may be from a registry's, in seconds.
const SKEW_SECONDS_MAX: i64 = 60;

/// The row; `built` is when this program was made, `registry` what a registry that was asked takes for the time.
pub(super) fn row(now: Timestamp, built: Timestamp, registry: Option<Timestamp>) -> Row {
    let name = "clock";
    let cure = |row: Row| row.cure("a clock that is right (as root)", "timedatectl set-ntp true");
    if now < built {
        let found = format!("{now}: that is before this program was built ({built})");
        return cure(Row::new(name, State::Fail, found));
    }
    let Some(registry) = registry else {
        return Row::new(name, State::Ok, format!("{now}"));
    };
    let skew = now.0.saturating_sub(registry.0);
    let way = if skew < 0 { "behind" } else { "ahead of" };
    let found = format!("{now}, {} s {way} the registry's", skew.unsigned_abs());
    if skew.unsigned_abs() > SKEW_SECONDS_MAX.unsigned_abs() {
        cure(Row::new(name, State::Warn, found))
    } else {
        Row::new(name, State::Ok, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_held_against_the_program_and_the_registry() {
        let (built, now) = (Timestamp(1_700_000_000), Timestamp(1_800_000_000));
        let state = |now, registry| row(now, built, registry).state;
        assert_eq!(state(now, None), State::Ok);
        assert_eq!(state(Timestamp(0), None), State::Fail);
        assert_eq!(state(now, Some(Timestamp(now.0 + 60))), State::Ok);
        let behind = row(now, built, Some(Timestamp(now.0 + 61)));
        assert_eq!(behind.state, State::Warn);
        assert!(behind.found.ends_with("61 s behind the registry's"), "{behind:?}");
        assert_eq!(state(now, Some(Timestamp(now.0 - 3600))), State::Warn);
    }
}
