//! Machines as they are met, made up, and the rows of each.

use super::*;
use crate::cli::doctor::row::Report;
use crate::cli::doctor::rung;
use crate::cli::doctor::sandbox::ids::IDS;
use crate::model::rung::Rung;
use crate::model::rung::RungChoice;
use crate::sandbox::cgroup_survey::Cgroups;
use crate::sandbox::id_helper::IdHelper;
use crate::sandbox::id_helper::Right;
use crate::sandbox::ladder;
use crate::sandbox::probe::Found;
use crate::sandbox::subordinate_ids::SubordinateRange;

const EVERY_ID: &str = "0 0 4294967295";

fn kernel() -> KernelSettings {
    KernelSettings {
        release: "6.12.0".to_owned(),
        container: Container::NotSeen,
        user_namespaces_max: Some(15_000),
        user_namespaces_for_all: None,
        apparmor_restricts: None,
        apparmor_profile: None,
        selinux_enforces: None,
        covered_proc: Vec::new(),
    }
}

fn delegated() -> Cgroups {
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
    Cgroups {
        hierarchy: Hierarchy::Version2,
        own: Some("/sys/fs/cgroup/user.slice".into()),
        controllers: words(&["cpu", "memory", "pids"]),
        limits: words(&["processes by cgroup v2", "memory by cgroup v2"]),
        notes: Vec::new(),
    }
}

fn helper(name: &str, right: Right) -> IdHelper {
    IdHelper {
        path: PathBuf::from("/usr/bin").join(name),
        right,
    }
}

/// A user `anna` on a machine that allows everything that a plain user can have.
fn anna() -> Facts {
    let range = Some(SubordinateRange {
        first: 165_536,
        count: IDS,
    });
    let found = Found::NOTHING_REFUSED;
    let subordinate = "bert:100000:65536\nanna:165536:65536\n".to_owned();
    climb(Facts {
        surroundings: Surroundings {
            uid: 1000,
            gid: 1000,
            uid_map: EVERY_ID.to_owned(),
            may_mount: false,
            subordinate_uids: range,
            subordinate_gids: range,
            newuidmap: Some("/usr/bin/newuidmap".into()),
            newgidmap: Some("/usr/bin/newgidmap".into()),
        },
        login_name: Some("anna".to_owned()),
        accounts: [subordinate.clone(), subordinate, String::new()],
        program: "/usr/local/bin/packhorse".into(),
        climbed: Climbed {
            best: None,
            missing: Vec::new(),
        },
        inventory: Inventory {
            found,
            overlay: Tried::Works,
            mapped_mount: Tried::NotTried,
            network: Tried::Works,
            filters: Tried::Works,
            filter_notifies: Tried::Works,
            landlock: Some(6),
            identity: Tried::Works,
            id_helpers: [
                Some(helper("newuidmap", Right::SetUserId)),
                Some(helper("newgidmap", Right::FileCapability)),
            ],
            cgroups: delegated(),
            kernel: kernel(),
        },
    })
}

/// Root on the same machine.
fn root() -> Facts {
    let anna = anna();
    climb(Facts {
        surroundings: Surroundings {
            uid: 0,
            gid: 0,
            may_mount: true,
            subordinate_uids: None,
            subordinate_gids: None,
            ..anna.surroundings
        },
        login_name: Some("root".to_owned()),
        inventory: Inventory {
            mapped_mount: Tried::Works,
            ..anna.inventory
        },
        ..anna
    })
}

/// The same facts with the rung that the ladder makes of them.
fn climb(facts: Facts) -> Facts {
    Facts {
        climbed: ladder::climb(&facts.surroundings, &facts.inventory.found),
        ..facts
    }
}

fn refused(facts: Facts, obstacle: Obstacle, number: i32) -> Facts {
    let refused = Some(Refused { obstacle, number });
    let tried = match obstacle {
        Obstacle::Proc => Tried::Works,
        _ => Tried::NotTried,
    };
    climb(Facts {
        inventory: Inventory {
            found: Found {
                with_user_namespace: refused,
                without_user_namespace: refused,
                ..Found::NOTHING_REFUSED
            },
            overlay: tried,
            network: tried,
            ..facts.inventory
        },
        ..facts
    })
}

fn report(facts: &Facts) -> Report {
    let mut rows = facts.rows();
    let (row, rung) = rung::row(&facts.climbed, RungChoice::default(), "default", &rows);
    rows.push(row);
    Report::of(rung, rows)
}

fn row(facts: &Facts, name: &str) -> Row {
    let row = facts.rows().into_iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("no row {name}"))
}

/// Every command and file that a row names.
fn cures(row: &Row) -> String {
    row.cures
        .iter()
        .map(|cure| cure.lines.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_good_machine_reads_well_in_both_forms() {
    let report = report(&anna());
    assert_eq!((report.exit_code, report.rung), (0, Some(Rung::Rootless)));
    insta::assert_snapshot!(report.text());
    insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
    assert_eq!(self::report(&root()).rung, Some(Rung::Full));
}

#[test]
fn a_user_without_subordinate_ids_is_told_the_lines_with_a_free_range() {
    let anna = anna();
    let only_bert = "bert:100000:65536\n".to_owned();
    let facts = climb(Facts {
        surroundings: Surroundings {
            subordinate_uids: None,
            subordinate_gids: None,
            ..anna.surroundings
        },
        accounts: [only_bert.clone(), only_bert, String::new()],
        ..anna
    });
    let row = row(&facts, "ids");
    assert_eq!(row.state, State::Warn);
    assert!(
        cures(&row).contains("usermod --add-subuids 165536-231071 --add-subgids 165536-231071 anna"),
        "{row:?}"
    );
    let report = report(&facts);
    assert_eq!((report.exit_code, report.rung), (0, Some(Rung::SingleId)));
    insta::assert_snapshot!(report.text());
}

#[test]
fn helpers_that_are_absent_or_without_a_right_are_told() {
    let anna = anna();
    let absent = climb(Facts {
        surroundings: Surroundings {
            newuidmap: None,
            ..anna.surroundings.clone()
        },
        inventory: Inventory {
            id_helpers: [None, Some(helper("newgidmap", Right::SetUserId))],
            ..anna.inventory.clone()
        },
        ..anna.clone()
    });
    assert!(cures(&row(&absent, "newuidmap")).contains("apt install uidmap"));
    let powerless = Facts {
        inventory: Inventory {
            id_helpers: [
                Some(helper("newuidmap", Right::None)),
                Some(helper("newgidmap", Right::None)),
            ],
            identity: Tried::Refused(1),
            ..anna.inventory.clone()
        },
        ..anna
    };
    let found = row(&powerless, "newuidmap");
    assert!(
        cures(&found)
            .contains("setcap cap_setuid+ep /usr/bin/newuidmap\nsetcap cap_setgid+ep /usr/bin/newgidmap"),
        "{found:?}"
    );
    // The ladder believed it could; trying said no.
    assert_eq!(row(&powerless, "ids").state, State::Fail);
    assert_eq!(report(&powerless).exit_code, 1);
}

#[test]
fn ubuntus_switch_is_told_with_a_whole_profile() {
    let facts = refused(anna(), Obstacle::Mount, 13);
    let facts = Facts {
        inventory: Inventory {
            kernel: KernelSettings {
                apparmor_restricts: Some(true),
                apparmor_profile: Some("unconfined".to_owned()),
                ..kernel()
            },
            ..facts.inventory
        },
        ..facts
    };
    let mounts = row(&facts, "mounts");
    assert_eq!(mounts.state, State::Fail);
    assert!(mounts.never_tried.is_some_and(|what| what.contains("AppArmor")));
    assert!(
        cures(&mounts).contains("profile packhorse \"/usr/local/bin/packhorse\" flags=(unconfined) {"),
        "{mounts:?}"
    );
    assert!(cures(&mounts).contains("kernel.apparmor_restrict_unprivileged_userns=0"));
    let report = report(&facts);
    assert_eq!((report.exit_code, report.rung), (77, None));
    insta::assert_snapshot!(report.text());
}

#[test]
fn a_container_of_docker_is_told_its_flags() {
    let facts = refused(anna(), Obstacle::Namespaces, 1);
    let facts = Facts {
        inventory: Inventory {
            kernel: KernelSettings {
                container: Container::Docker,
                ..kernel()
            },
            ..facts.inventory
        },
        ..facts
    };
    let namespace = row(&facts, "user namespace");
    assert_eq!(namespace.state, State::Fail);
    assert!(
        cures(&namespace).contains("--security-opt seccomp=unconfined --security-opt systempaths=unconfined"),
        "{namespace:?}"
    );
    assert!(!report(&facts).text().contains("privileged "));
}

#[test]
fn a_covered_proc_is_told_with_what_covers_it() {
    let facts = refused(anna(), Obstacle::Proc, 1);
    let covered = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/kcore"];
    let facts = Facts {
        inventory: Inventory {
            kernel: KernelSettings {
                container: Container::Kubernetes,
                covered_proc: covered.map(str::to_owned).to_vec(),
                ..kernel()
            },
            ..facts.inventory
        },
        ..facts
    };
    let proc = row(&facts, "own /proc");
    assert_eq!(proc.state, State::Warn);
    assert!(
        proc.found.ends_with("/proc/bus, /proc/fs, /proc/irq and 1 more"),
        "{proc:?}"
    );
    assert!(cures(&proc).contains("procMount: Unmasked"), "{proc:?}");
    assert_eq!(report(&facts).rung, Some(Rung::OuterProc));
}

#[test]
fn switched_off_namespaces_are_told_the_setting() {
    let with = |kernel: KernelSettings| {
        let facts = refused(anna(), Obstacle::Namespaces, 28);
        let inventory = Inventory {
            kernel,
            ..facts.inventory
        };
        cures(&row(&Facts { inventory, ..facts }, "user namespace"))
    };
    let none = KernelSettings {
        user_namespaces_max: Some(0),
        ..kernel()
    };
    assert!(with(none).contains("sysctl -w user.max_user_namespaces=15000"));
    let old_debian = KernelSettings {
        user_namespaces_for_all: Some(false),
        ..kernel()
    };
    assert!(with(old_debian).contains("sysctl -w kernel.unprivileged_userns_clone=1"));
}

#[test]
fn root_without_user_namespaces_goes_on() {
    let root = root();
    let facts = climb(Facts {
        inventory: Inventory {
            found: Found {
                with_user_namespace: Some(Refused {
                    obstacle: Obstacle::Namespaces,
                    number: 28,
                }),
                ..Found::NOTHING_REFUSED
            },
            ..root.inventory
        },
        ..root
    });
    assert_eq!(row(&facts, "user namespace").state, State::Warn);
    assert!(row(&facts, "mounts").found.contains("root may mount without one"));
    assert_eq!(report(&facts).rung, Some(Rung::NoUserNamespace));
}

#[test]
fn limits_without_cgroups_are_told_with_the_delegation() {
    let anna = anna();
    let facts = Facts {
        inventory: Inventory {
            cgroups: Cgroups {
                controllers: Vec::new(),
                limits: vec!["processes by RLIMIT_NPROC".to_owned()],
                notes: vec!["no cgroup is writable here".to_owned()],
                ..delegated()
            },
            ..anna.inventory
        },
        ..anna
    };
    let row = row(&facts, "cgroups");
    assert_eq!(row.state, State::Warn);
    assert!(cures(&row).contains("systemd-run --user --scope --property=Delegate=yes"));
    assert!(row.never_tried.is_some_and(|what| what.contains("v2 alone")));
}

#[test]
fn a_single_id_needs_landlock() {
    let anna = anna();
    let with = |landlock, range| {
        let facts = climb(Facts {
            surroundings: Surroundings {
                subordinate_uids: range,
                ..anna.surroundings.clone()
            },
            inventory: Inventory {
                landlock,
                ..anna.inventory.clone()
            },
            ..anna.clone()
        });
        row(&facts, "landlock").state
    };
    let range = anna.surroundings.subordinate_uids;
    assert_eq!(with(None, None), State::Fail);
    assert_eq!(with(Some(1), None), State::Fail);
    assert_eq!(with(Some(3), None), State::Warn);
    assert_eq!(with(None, range), State::Warn);
    assert_eq!(with(Some(7), range), State::Ok);
}

#[test]
fn what_the_kernel_refuses_alone_has_its_row() {
    let root = root();
    let facts = Facts {
        inventory: Inventory {
            overlay: Tried::Refused(22),
            mapped_mount: Tried::Refused(22),
            filters: Tried::Refused(22),
            filter_notifies: Tried::Refused(95),
            network: Tried::Refused(1),
            kernel: KernelSettings {
                selinux_enforces: Some(true),
                ..kernel()
            },
            ..root.inventory
        },
        ..root
    };
    let state = |name| row(&facts, name).state;
    assert_eq!(state("overlay"), State::Warn);
    assert_eq!(state("mapped mounts"), State::Fail);
    assert_eq!(state("system call filter"), State::Fail);
    assert_eq!(state("network namespace"), State::Warn);
    let modules = row(&facts, "security modules");
    assert!(modules.never_tried.is_some_and(|what| what.contains("SELinux")));
}
