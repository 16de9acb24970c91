//! Attacks from inside a job, one table for all of them: attack × rung × user → held, or not and why.
//!
//! The programs are in `testdata/attacks`. They aim at victims that the test makes, in namespaces of its own.

mod programs;
mod expectation;
mod stage;
mod assault;
mod gateway;
mod table;
mod accomplice;
mod nested;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use packhorse::model::rung::RungChoice;
use packhorse::sandbox::identity::Surroundings;
use packhorse::sandbox::ladder;
use packhorse::sandbox::ladder::Ground;
use packhorse::sandbox::probe::Found;

use crate::attacks::assault::Line;
use crate::attacks::expectation::BROKEN_WITHOUT_A_SANDBOX;
use crate::attacks::expectation::COLUMNS;
use crate::attacks::expectation::Column;
use crate::attacks::expectation::EXCEPTIONS;
use crate::attacks::expectation::Runner;
use crate::attacks::programs::PROGRAMS;
use crate::attacks::stage::Stage;
use crate::attacks::table::Table;
use crate::support::image::is_root;
use crate::support::left_out::left_out;

/// Names the column that `attacks_of_one_column` runs, and the folder of the programs.
const COLUMN: &str = "PACKHORSE_TEST_COLUMN";
const FOLDER: &str = "PACKHORSE_TEST_ATTACKS";
/// The column without a sandbox.
const NOTHING: &str = "no sandbox";
/// The column of the accomplice, with whom that is.
const ACCOMPLICE: &str = "accomplice: ";
/// Fewer is a mistake.
const ATTACKS_MIN: usize = 100;

#[test]
fn every_attack_is_held_on_every_rung() {
    let Some(user) = plain_user() else { return };
    let folder = programs::compile();
    let known: BTreeSet<String> = known(folder.path());
    assert!(known.len() >= ATTACKS_MIN, "{}", known.len());
    for exception in EXCEPTIONS {
        assert!(
            known.contains(exception.attack),
            "no attack is called {}",
            exception.attack
        );
    }
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(BTreeMap::new());
    // Four at a time: most of what they do is waiting.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((position, column)) = COLUMNS
                    .iter()
                    .enumerate()
                    .nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let lines = run_column(column.name, column.runner, &user, folder.path());
                    ended.lock().unwrap().insert(position, (column, lines));
                }
            });
        }
    });
    let mut table = Table::default();
    for (column, lines) in ended.into_inner().unwrap().into_values() {
        table.add(column, lines);
    }
    table.write();
    let wrong = table.wrong(&known);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The control: without a sandbox the same programs break out, so what they say elsewhere means something.
#[test]
fn without_a_sandbox_they_break_out() {
    let Some(user) = plain_user() else { return };
    let folder = programs::compile();
    let lines = run_column(NOTHING, Runner::PlainUser, &user, folder.path());
    let not_broken: Vec<String> = BROKEN_WITHOUT_A_SANDBOX
        .iter()
        .filter(|attack| {
            !lines
                .iter()
                .any(|line| line.attack == **attack && line.verdict == "broken")
        })
        .map(|attack| {
            let said = lines.iter().find(|line| line.attack == *attack);
            format!("{attack}: {said:?}")
        })
        .collect();
    assert!(not_broken.is_empty(), "{}", not_broken.join("\n"));
}

/// Whatever a job makes on the machine's disk, no other user reaches it.
#[test]
fn an_accomplice_outside_gets_nothing() {
    let Some(user) = plain_user() else { return };
    let folder = programs::compile();
    run_column(&format!("{ACCOMPLICE}{user}"), Runner::Root, &user, folder.path());
}

fn known(folder: &Path) -> BTreeSet<String> {
    let of_programs = PROGRAMS.iter().flat_map(|program| {
        let names = programs::attacks_of(folder, program);
        names.into_iter().map(move |name| format!("{program}/{name}"))
    });
    of_programs.chain(assault::more_attacks(folder)).collect()
}

/// A user with subordinate ids, none if the test cannot become one.
fn plain_user() -> Option<String> {
    if !is_root() || !Path::new("/proc/self/ns/net").exists() {
        left_out("only root can be all the users that attacks are tried as");
        return None;
    }
    let user = crate::sandbox::a_user_with_ids();
    if user.is_none() {
        left_out("no user has subordinate ids here");
    }
    user
}

/// Runs this program again as `runner`, in namespaces that have nothing but a loopback with the victims' addresses.
fn run_column(name: &str, runner: Runner, user: &str, folder: &Path) -> Vec<Line> {
    let addresses = "ip link set lo up; for address in 203.0.113.9 10.11.12.1 10.11.12.2 169.254.169.254; do \
                     ip address add $address/32 dev lo; done; ip address add 64:ff9b::7f00:1/128 dev lo; \
                     echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let script = format!("set -e; {addresses}; exec \"$@\"");
    let namespaces = ["--net", "--ipc", "--uts", "--mount", "--propagation", "private"];
    let mut command = Command::new("setpriv");
    match runner {
        Runner::Root => command.args(["--clear-groups", "unshare"]),
        Runner::PlainUser | Runner::PlainUserAlone => command.args([
            &format!("--reuid={user}"),
            &format!("--regid={user}"),
            "--init-groups",
            "unshare",
            "--user",
            "--map-root-user",
        ]),
    };
    if runner == Runner::PlainUser {
        command.arg("--map-auto");
    }
    let output = command
        .args(namespaces)
        .args(["sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "attacks::attacks_of_one_column",
            "--ignored",
            "--nocapture",
        ])
        .env(COLUMN, name)
        .env(FOLDER, folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("test result: ok. 1 passed"),
        "{name}: {text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines().filter_map(Line::parse).collect()
}

/// Not a test by itself: what `run_column` runs.
#[test]
#[ignore = "run by every_attack_is_held_on_every_rung, in surroundings of its own"]
fn attacks_of_one_column() {
    let (Ok(name), Some(folder)) = (std::env::var(COLUMN), std::env::var_os(FOLDER)) else {
        panic!("run by every_attack_is_held_on_every_rung")
    };
    let folder = Path::new(&folder);
    if name == NOTHING {
        let stage = Stage::new(folder, None);
        assault::without_a_sandbox(&stage, folder);
        return;
    }
    if let Some(accomplice) = name.strip_prefix(ACCOMPLICE) {
        accomplice::all(folder, accomplice);
        return;
    }
    let column = COLUMNS.iter().find(|column| column.name == name).unwrap();
    let mut stage = Stage::new(folder, Some(*column));
    for user in column.users() {
        assault::all(&stage, *column, *user, folder);
        if column.has_own_network() {
            gateway::all(&stage, *user, folder);
        } else {
            gateway::by_proxy(&stage, *user, folder);
        }
        assault::look_at_victims(&mut stage, *user);
    }
}

fn ground(column: Column) -> Ground {
    let surroundings = Surroundings::read(None, None);
    let choice = RungChoice {
        exactly: Some(column.rung),
        minimum: None,
    };
    ladder::choose(&ladder::climb(&surroundings, &Found::NOTHING_REFUSED), choice).unwrap()
}
