//! Runs the programs in jobs, and says what came of each attack.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use packhorse::events::Stream;
use packhorse::model::limit_reached::Limit;
use packhorse::model::limits::Limits;
use packhorse::sandbox;
use packhorse::sandbox::command::Command;
use packhorse::sandbox::command::Exit;
use packhorse::sandbox::command::RunAs;
use packhorse::sandbox::job::Job as _;
use packhorse::sandbox::native::NativeJob;
use packhorse::sandbox::spec::Network;

use crate::attacks::expectation::BROKEN_WITHOUT_A_SANDBOX;
use crate::attacks::expectation::Column;
use crate::attacks::programs;
use crate::attacks::stage;
use crate::attacks::stage::MEBIBYTES;
use crate::attacks::stage::PROCESSES;
use crate::attacks::stage::Stage;

/// Programs whose attacks do not disturb each other.
const TOGETHER: [&str; 7] = [
    "files",
    "processes",
    "privilege",
    "kernel_files",
    "network",
    "identity",
    "terminal",
];
/// Attacks on the machine's resources that need a job to themselves.
const ALONE: [&str; 13] = [
    "fork-bomb",
    "thread-bomb",
    "memory-hog",
    "memory-hogs",
    "memory-file-hog",
    "segment-hog",
    "locked-memory",
    "flood-stdout",
    "flood-stderr",
    "daemons-left",
    "term-ignored",
    "term-ignored-stopped",
    "term-ignored-traced",
];
/// Attacks that a script makes, and the network's attacks where there is a gateway.
const MORE: [&str; 3] = ["start/script-changes-mode", "start/script-writes", VICTIMS];
/// Whether something of the victims has changed in the end, whatever the programs said.
const VICTIMS: &str = "victims/changed";
/// The mark at the beginning of a line that says what came of an attack.
const LINE: &str = "attack:";

/// What came of one attack.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) user: u32,
    /// `PROGRAM/NAME`.
    pub(super) attack: String,
    /// `held`, `broken`, `absent` or `crashed`.
    pub(super) verdict: String,
    pub(super) why: String,
}

impl Line {
    /// Reads what `print` wrote.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(LINE)?.split('\t');
        Some(Self {
            user: fields.next()?.parse().ok()?,
            attack: fields.next()?.to_owned(),
            verdict: fields.next()?.to_owned(),
            why: fields.next()?.to_owned(),
        })
    }
}

/// Says it to whoever runs this program.
#[expect(clippy::print_stdout, reason = "another process of the test reads it")]
pub(super) fn print(user: u32, program: &str, line: &str) {
    let (attack, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (verdict, why) = rest.split_once(' ').unwrap_or((rest, ""));
    println!("{LINE}{user}\t{program}/{attack}\t{verdict}\t{why}");
}

/// The attacks that are not of one program.
pub(super) fn more_attacks(folder: &Path) -> Vec<String> {
    let hosts = hosts(folder);
    MORE.iter()
        .map(|name| (*name).to_owned())
        .chain(hosts.iter().map(|name| format!("gateway-to/{name}")))
        .collect()
}

/// The attacks of `network` that dial.
pub(super) fn hosts(folder: &Path) -> Vec<String> {
    let names = programs::attacks_of(folder, "network");
    names
        .into_iter()
        .filter(|name| name.starts_with("host-"))
        .collect()
}

pub(super) fn limits() -> Limits {
    Limits {
        timeout: Duration::from_secs(120),
        ..Limits::default()
    }
}

/// Everything that needs no way out.
pub(super) fn all(stage: &Stage, column: Column, user: u32, folder: &Path) {
    let job = sandbox::start(stage.spec(user, Network::None, limits())).unwrap();
    assert_eq!(
        job.rung().split(':').next(),
        Some(column.rung.name()),
        "{}",
        job.rung()
    );
    job.attach_layers().unwrap();
    for program in TOGETHER {
        let said = attack(&job, stage, program, &[], None);
        assert_eq!(said.exit.unwrap(), Exit::Code(0), "{program}: {}", said.text);
        said.text.lines().for_each(|line| print(user, program, line));
    }
    // `init-signals` and its like have not ended it.
    assert_eq!(
        attack(&job, stage, "files", &["file-by-name"], None)
            .exit
            .unwrap(),
        Exit::Code(0)
    );
    drop(job);
    resources(stage, user, folder);
    script(stage, user);
}

/// Says whether the victims have come through it.
pub(super) fn look_at_victims(stage: &mut Stage, user: u32) {
    let harm = stage.harm();
    let verdict = if harm.is_empty() { "held" } else { "broken" };
    let what = harm.join("; ").replace(['\n', '\t'], " ");
    print(user, "victims", &format!("changed {verdict} {what}"));
}

struct Said {
    exit: Result<Exit, String>,
    text: String,
    elapsed: Duration,
}

fn command(stage: &Stage, arguments: Vec<OsString>) -> Command {
    Command {
        name: "attack".to_owned(),
        arguments,
        environment: stage.environment(),
        working_directory: "/".into(),
        run_as: RunAs::User,
        timeout: None,
    }
}

fn attack(job: &NativeJob, stage: &Stage, program: &str, names: &[&str], timeout: Option<Duration>) -> Said {
    let program = OsString::from(format!("/attacks/{program}"));
    let arguments = std::iter::once(program)
        .chain(names.iter().map(OsString::from))
        .collect();
    let command = Command {
        timeout,
        ..command(stage, arguments)
    };
    run(job, &command)
}

fn run(job: &NativeJob, command: &Command) -> Said {
    let text = Mutex::new(Vec::new());
    let begin = Instant::now();
    let exit = job.run(command, &|stream, bytes| {
        if stream == Stream::Stdout {
            text.lock().unwrap().extend_from_slice(bytes);
        }
    });
    Said {
        exit: exit.map_err(|error| error.to_string()),
        text: String::from_utf8_lossy(&text.into_inner().unwrap()).into_owned(),
        elapsed: begin.elapsed(),
    }
}

/// Runs attacks of a program in a job, and says what came of them.
pub(super) fn print_attacks(
    job: &NativeJob,
    stage: &Stage,
    user: u32,
    (program, shown): (&str, &str),
    names: &[&str],
) {
    let said = attack(job, stage, program, names, None);
    assert_eq!(said.exit.unwrap(), Exit::Code(0), "{program}: {}", said.text);
    said.text.lines().for_each(|line| print(user, shown, line));
}

/// Runs attacks of `identity` for what they leave behind.
pub(super) fn leave(job: &NativeJob, stage: &Stage, names: &[&str]) {
    let said = attack(job, stage, "identity", names, None);
    assert_eq!(said.exit.unwrap(), Exit::Code(0), "{}", said.text);
}

fn resources(stage: &Stage, user: u32, folder: &Path) {
    let tight = || Limits {
        memory_bytes_max: Some(MEBIBYTES << 20),
        processes_max: PROCESSES,
        output_bytes_max: 1 << 20,
        ..limits()
    };
    let all = programs::attacks_of(folder, "resources");
    let together: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|name| !ALONE.contains(name))
        .collect();
    let job = sandbox::start(stage.spec(user, Network::None, limits())).unwrap();
    print_attacks(&job, stage, user, ("resources", "resources"), &together);
    drop(job);
    for name in ALONE {
        let job = sandbox::start(stage.spec(user, Network::None, tight())).unwrap();
        let mark = format!("mark-of-{name}-{user}-{}", std::process::id());
        let timeout = name.starts_with("term-").then_some(Duration::from_millis(400));
        let said = attack(&job, stage, "resources", &[name, &mark], timeout);
        let swept = job.sweep();
        print(user, "resources", &judged(name, &said, swept.is_ok(), &mark));
        drop(job);
        assert_eq!(processes_with(&mark), 0, "{name} left processes behind");
    }
}

/// Whether a command was ended for a limit.
fn is_over<E>(exit: &Result<Exit, E>, wanted: fn(Limit) -> bool) -> bool {
    matches!(exit, Ok(Exit::OverLimit(reached)) if wanted(reached.limit))
}

/// What came of an attack that is not for its program alone to say: name, verdict and why.
fn judged(name: &str, said: &Said, swept: bool, mark: &str) -> String {
    let verdict = |held: bool, why: &str| format!("{name} {} {why}", if held { "held" } else { "broken" });
    let line = said
        .text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")));
    let exit = &said.exit;
    match name.split('-').next().unwrap_or_default() {
        "flood" => verdict(
            is_over(exit, |limit| matches!(limit, Limit::Output(_))) && said.text.len() <= 1 << 20,
            &format!("{exit:?}"),
        ),
        "term" => verdict(
            is_over(exit, |limit| matches!(limit, Limit::WallClock(_)))
                && said.elapsed < Duration::from_secs(5)
                && gone(mark),
            &format!("{exit:?}"),
        ),
        "daemons" => verdict(
            *exit == Ok(Exit::Code(0)) && said.elapsed < Duration::from_secs(10) && swept && gone(mark),
            "ended in time and swept",
        ),
        _ => match (line, exit) {
            (Some(line), _) => line.to_owned(),
            (None, Ok(Exit::OverLimit(_))) => verdict(true, "the job is ended for it"),
            (None, other) => format!("{name} crashed {other:?}"),
        },
    }
}

fn gone(mark: &str) -> bool {
    processes_with(mark) == 0
}

/// How many processes of the machine have `mark` in their command line.
fn processes_with(mark: &str) -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(mark))
        .count()
}

/// A program that is a script whose interpreter is "this program", which at that moment is packhorse.
fn script(stage: &Stage, user: u32) {
    let spec = stage.spec(user, Network::None, limits());
    let path = spec.workspace.join("script");
    fs::write(&path, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let job = sandbox::start(spec).unwrap();
    let mut command = command(stage, vec!["/workspace/script".into()]);
    command
        .environment
        .push(("LD_PRELOAD".into(), stage::preload().into()));
    let said = run(&job, &command);
    for name in MORE.iter().filter_map(|name| name.strip_prefix("start/")) {
        let line = said.text.lines().find(|line| line.starts_with(name));
        let line = line.map_or_else(
            || format!("{name} held nothing was loaded: {:?}", said.exit),
            str::to_owned,
        );
        print(user, "start", &line);
    }
}

/// The attacks of the control, each in a mount namespace of its own.
pub(super) fn without_a_sandbox(stage: &Stage, folder: &Path) {
    for attack in BROKEN_WITHOUT_A_SANDBOX {
        let (program, name) = attack.split_once('/').unwrap();
        let output = std::process::Command::new("unshare")
            .args(["--mount", "--uts", "--propagation", "private"])
            .arg(folder.join(program))
            .arg(name)
            .env_clear()
            .envs(stage.environment())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().for_each(|line| print(0, program, line));
    }
}
