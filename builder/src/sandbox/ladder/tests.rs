//! Machines as they are met, and the rung that each comes to.

use std::path::PathBuf;

use super::*;
use crate::sandbox::subordinate_ids::SubordinateRange;

const EVERY_ID: &str = "         0          0 4294967295\n";

fn user() -> Surroundings {
    let range = SubordinateRange {
        first: 100_000,
        count: 65_536,
    };
    Surroundings {
        uid: 1000,
        gid: 1000,
        uid_map: EVERY_ID.to_owned(),
        may_mount: false,
        subordinate_uids: Some(range),
        subordinate_gids: Some(range),
        newuidmap: Some(PathBuf::from("/usr/bin/newuidmap")),
        newgidmap: Some(PathBuf::from("/usr/bin/newgidmap")),
    }
}

fn root(uid_map: &str) -> Surroundings {
    Surroundings {
        uid: 0,
        gid: 0,
        uid_map: uid_map.to_owned(),
        may_mount: true,
        ..user()
    }
}

fn refused(obstacle: Obstacle) -> Refused {
    Refused {
        obstacle,
        number: libc::EPERM,
    }
}

fn rung(surroundings: &Surroundings, found: &Found) -> Option<Rung> {
    climb(surroundings, found).best.map(Ground::rung)
}

#[test]
fn the_machine_decides_the_rung() {
    let without_ranges = Surroundings {
        subordinate_uids: None,
        ..user()
    };
    let without_helpers = Surroundings {
        newgidmap: None,
        ..user()
    };
    let without_mounts = Surroundings {
        may_mount: false,
        ..root(EVERY_ID)
    };
    for (surroundings, expected) in [
        (without_mounts, Rung::Rootless),
        (root(EVERY_ID), Rung::Full),
        (root("0 100000 65536\n"), Rung::Rootless),
        (root("0 1000 1\n1 100000 65536\n"), Rung::Rootless),
        (root("0 1000 1\n"), Rung::SingleId),
        (root(""), Rung::SingleId),
        (user(), Rung::Rootless),
        (without_ranges, Rung::SingleId),
        (without_helpers, Rung::SingleId),
    ] {
        assert_eq!(
            rung(&surroundings, &Found::NOTHING_REFUSED),
            Some(expected),
            "{surroundings:?}"
        );
        let masked = Found {
            with_user_namespace: Some(refused(Obstacle::Proc)),
            ..Found::NOTHING_REFUSED
        };
        assert_eq!(rung(&surroundings, &masked), Some(Rung::OuterProc));
    }
}

#[test]
fn without_user_namespaces_root_goes_on_alone_and_a_plain_user_not() {
    for obstacle in [Obstacle::Namespaces, Obstacle::Mount] {
        let found = Found {
            with_user_namespace: Some(refused(obstacle)),
            ..Found::NOTHING_REFUSED
        };
        assert_eq!(rung(&root(EVERY_ID), &found), Some(Rung::NoUserNamespace));
        assert_eq!(rung(&user(), &found), None);
        assert_eq!(rung(&root("0 1000 1\n"), &found), None);
        let closed = Found {
            without_user_namespace: Some(refused(Obstacle::Namespaces)),
            ..found
        };
        assert_eq!(rung(&root(EVERY_ID), &closed), Some(Rung::Chroot));
        let bare = Found {
            chroot: Some(libc::EPERM),
            ..closed
        };
        let climbed = climb(&root(EVERY_ID), &bare);
        assert_eq!(climbed.best, None);
        let rungs: Vec<Rung> = climbed.missing.iter().map(|missing| missing.rung).collect();
        assert_eq!(rungs, [Rung::Full, Rung::NoUserNamespace, Rung::Chroot]);
    }
}

#[test]
fn without_overlays_trees_are_copied_and_it_says_why() {
    for (found, why) in [
        (
            Found {
                overlay: Some(libc::ENODEV),
                ..Found::NOTHING_REFUSED
            },
            "No such device",
        ),
        (
            Found {
                disk_is_overlay: true,
                ..Found::NOTHING_REFUSED
            },
            "lies on an overlay",
        ),
    ] {
        for surroundings in [root(EVERY_ID), user()] {
            let climbed = climb(&surroundings, &found);
            assert_eq!(climbed.best.map(Ground::rung), Some(Rung::NoOverlay));
            let missing = &climbed.missing[0];
            assert!(
                missing.why.contains(why) && !missing.cure.is_empty(),
                "{missing:?}"
            );
        }
    }
}

#[test]
fn each_lower_rung_can_be_asked_for_and_none_that_is_not_there() {
    let choose_on = |surroundings: &Surroundings, rung: Rung| {
        let choice = RungChoice {
            exactly: Some(rung),
            minimum: None,
        };
        choose(&climb(surroundings, &Found::NOTHING_REFUSED), choice).map(Ground::rung)
    };
    for rung in [
        Rung::Full,
        Rung::SingleId,
        Rung::OuterProc,
        Rung::NoOverlay,
        Rung::NoUserNamespace,
        Rung::Chroot,
    ] {
        assert_eq!(choose_on(&root(EVERY_ID), rung).unwrap(), rung);
    }
    for rung in [Rung::Rootless, Rung::SingleId, Rung::OuterProc, Rung::NoOverlay] {
        assert_eq!(choose_on(&user(), rung).unwrap(), rung);
    }
    for rung in [Rung::Full, Rung::NoUserNamespace, Rung::Chroot] {
        let error = choose_on(&user(), rung).unwrap_err().to_string();
        assert!(error.contains(rung.name()), "{error}");
    }
}

#[test]
fn nothing_below_the_minimum_is_taken() {
    let without_ranges = Surroundings {
        subordinate_gids: None,
        ..user()
    };
    let choice = RungChoice {
        exactly: None,
        minimum: Some(Rung::Rootless),
    };
    assert!(choose(&climb(&user(), &Found::NOTHING_REFUSED), choice).is_ok());
    let error = choose(&climb(&without_ranges, &Found::NOTHING_REFUSED), choice).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("at least the rung `rootless`") && text.contains("usermod --add-subgids"),
        "{text}"
    );
}
