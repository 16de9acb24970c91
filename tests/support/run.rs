//! One run of packhorse: started, watched, interrupted, waited for; killed if a test gives up on it.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use crate::support::processes::Process;
use crate::support::processes::descendants;
use crate::support::terminal::Terminal;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A command that is not yet started.
pub(crate) struct Invocation {
    command: Command,
    store: PathBuf,
    temporary: PathBuf,
    patience: Duration,
}

impl Invocation {
    /// Runs `command`, which keeps things in `store` and `temporary`.
    pub(crate) fn new(command: Command, store: PathBuf, temporary: PathBuf) -> Self {
        Self {
            command,
            store,
            temporary,
            patience: PATIENCE,
        }
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets the working directory.
    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Waits longer.
    pub(crate) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Puts another program in front, which gets this one as its arguments.
    pub(crate) fn through(mut self, program: &[&str]) -> Self {
        let mut outer = Command::new(program[0]);
        outer
            .args(&program[1..])
            .arg(self.command.get_program())
            .args(self.command.get_args());
        outer.env_clear();
        outer.envs(
            self.command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        if let Some(directory) = self.command.get_current_dir() {
            outer.current_dir(directory);
        }
        self.command = outer;
        self
    }

    /// Gives it a terminal, in place of both standard output and standard error: a run has all that it says in `stdout`.
    pub(crate) fn on_a_terminal(self) -> Self {
        // No word of a test has a quote in it.
        let script = "for word; do line=\"$line '$word'\"; done; \
             exec script --quiet --return --command \"stty rows 30 cols 100; exec $line\" /dev/null";
        self.through(&["sh", "-c", script, "sh"])
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        self.command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.spawn(|child, stdout, stderr| {
            vec![
                stdout.follow(child.stdout.take().unwrap()),
                stderr.follow(child.stderr.take().unwrap()),
            ]
        })
    }

    /// Starts it on a terminal, as a shell does: a run has all that it says in `stdout`.
    pub(crate) fn start_on(self, terminal: &mut Terminal) -> Running {
        let mut outer = self.through(&["setsid", "--ctty"]);
        let screen = terminal.screen();
        // Nobody here may keep it open, else its end is not seen.
        let inner = terminal.take_inner();
        outer.command.stdin(inner.try_clone().unwrap());
        outer.command.stdout(inner.try_clone().unwrap()).stderr(inner);
        outer.spawn(|_, stdout, _| vec![stdout.follow(screen)])
    }

    fn spawn(mut self, follow: impl FnOnce(&mut Child, &Text, &Text) -> Vec<JoinHandle<()>>) -> Running {
        let start = Instant::now();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let (stdout, stderr) = (Text::default(), Text::default());
        let readers = follow(&mut child, &stdout, &stderr);
        let Self {
            store,
            temporary,
            patience,
            command,
        } = self;
        let words = format!("{command:?}");
        // It has the inner side of a terminal open, if there is one.
        drop(command);
        Running {
            child,
            start,
            stdout,
            stderr,
            readers,
            store,
            temporary,
            patience,
            words,
            seen: Vec::new(),
        }
    }

    /// Runs it to its end; nothing half-made may stay.
    pub(crate) fn run(self) -> Run {
        self.start().wait()
    }
}

/// A run that is under way.
pub(crate) struct Running {
    child: Child,
    start: Instant,
    stdout: Text,
    stderr: Text,
    readers: Vec<JoinHandle<()>>,
    store: PathBuf,
    temporary: PathBuf,
    patience: Duration,
    words: String,
    /// Processes below it that were seen.
    seen: Vec<Process>,
}

impl Running {
    /// Waits until either stream has said `text`.
    pub(crate) fn until_said(&mut self, text: &str) {
        self.until(&format!("said {text:?}"), |run| {
            run.stdout.contains(text) || run.stderr.contains(text)
        });
    }

    /// Waits until something holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            let ended = self.child.try_wait().unwrap();
            let patient = start.elapsed() < self.patience && ended.is_none();
            assert!(
                patient,
                "{} never {what} ({ended:?}):\n{}{}",
                self.words,
                self.stdout.get(),
                self.stderr.get()
            );
            self.stderr.wait_a_moment();
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub(crate) fn interrupt(&mut self) {
        self.note_processes();
        kill_process(self.pid(), Signal::INT).unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.note_processes();
        kill_process(self.pid(), signal).unwrap();
    }

    /// Remembers what runs below it now.
    pub(crate) fn note_processes(&mut self) {
        self.seen.extend(descendants(self.child.id()));
    }

    /// Waits for its end. No process, job directory or temporary file of it may be left.
    pub(crate) fn wait(mut self) -> Run {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let (out, err) = (self.stdout.get(), self.stderr.get());
            assert!(
                self.start.elapsed() < self.patience,
                "{} does not end:\n{out}{err}",
                self.words
            );
            self.stderr.wait_a_moment();
        };
        let elapsed = self.start.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        let run = Run {
            code: status.code(),
            stdout: self.stdout.get(),
            stderr: self.stderr.get(),
            elapsed,
            words: self.words.clone(),
        };
        self.check_nothing_is_left(&run);
        run
    }

    /// Waits for its end while others use the same temporary folder.
    pub(crate) fn wait_with_others(mut self) -> Run {
        self.temporary = PathBuf::from("/nonexistent");
        self.wait()
    }

    fn check_nothing_is_left(&self, run: &Run) {
        let alive = || {
            self.seen
                .iter()
                .filter(|process| process.is_alive())
                .collect::<Vec<_>>()
        };
        let start = Instant::now();
        while !alive().is_empty() {
            // The kernel reaps a dead sandbox in its own time.
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "left processes behind: {:?}\n{run:?}",
                alive()
            );
            thread::sleep(Duration::from_millis(20));
        }
        let mine = format!("-{}-", self.child.id());
        let jobs = fs::read_dir(self.store.join("jobs"))
            .into_iter()
            .flatten()
            .flatten();
        let left: Vec<_> = jobs
            .filter(|job| job.file_name().to_string_lossy().contains(&mine))
            .collect();
        assert!(left.is_empty(), "left job directories behind: {left:?}\n{run:?}");
        let temporary: Vec<_> = fs::read_dir(&self.temporary)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        assert!(
            temporary.is_empty(),
            "left temporary files behind: {temporary:?}\n{run:?}"
        );
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard output.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.get()
    }

    /// Kills it, and gives the processes that were seen below it.
    pub(crate) fn kill(mut self) -> Vec<Process> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.seen)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a wait there is nothing to kill.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) elapsed: Duration,
    words: String,
}

impl Run {
    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "{}\n{}{}",
            self.words,
            self.stdout,
            self.stderr
        );
        self
    }

    /// It must have failed with this exit code and this stable code.
    #[track_caller]
    pub(crate) fn fails(self, exit: i32, code: &str) -> Self {
        let said = self
            .stderr
            .lines()
            .any(|line| line.starts_with(&format!("code: {code} ")) || line == format!("code: {code}"));
        let in_json = format!("\"code\":\"{code}\"");
        let said = said
            || self
                .stdout
                .lines()
                .any(|line| line.contains("\"event\":\"failed\"") && line.contains(&in_json));
        let context = format!("{}\n{}{}", self.words, self.stdout, self.stderr);
        assert!(
            self.code == Some(exit) && said,
            "wanted exit code {exit} and `{code}`, got {:?}: {context}",
            self.code
        );
        self
    }

    /// The image's digest, as the last line of the summary or the only line of `-q` has it.
    #[track_caller]
    pub(crate) fn digest(&self) -> String {
        let all = format!("{}\n{}", self.stderr, self.stdout);
        let mut digests = all.lines().rev().filter_map(|line| {
            let word = line.split_whitespace().last()?;
            (word.len() == 71 && word.starts_with("sha256:")).then(|| word.to_owned())
        });
        digests.next().unwrap_or_else(|| panic!("no digest:\n{all}"))
    }

    /// What it said about its failure: from `error:` on.
    pub(crate) fn message(&self) -> String {
        let start = self.stderr.find("error: ").unwrap_or(self.stderr.len());
        // How long the failed phase took is told before the failure, and is never the same.
        let lines = self.stderr[start..]
            .lines()
            .filter(|line| !line.contains(" took "));
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// Everything it said.
    pub(crate) fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// A stream's text so far.
#[derive(Clone, Default)]
struct Text(Arc<(Mutex<Vec<u8>>, Condvar)>);

impl Text {
    fn follow(&self, mut stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let text = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                text.0.0.lock().unwrap().extend_from_slice(&buffer[..length]);
                text.0.1.notify_all();
            }
        })
    }

    fn get(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap()).into_owned()
    }

    fn contains(&self, text: &str) -> bool {
        self.get().contains(text)
    }

    fn wait_a_moment(&self) {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout(guard, Duration::from_millis(50)).unwrap());
    }
}
