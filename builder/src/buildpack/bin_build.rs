//! One run of a buildpack's `bin/build`.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use packhorse_spec::plan_toml::BuildpackPlan;

use crate::buildpack::bindings::BINDINGS;
use crate::buildpack::bindings::files_for;
use crate::buildpack::build::BuildError;
use crate::buildpack::environment::Environment;
use crate::buildpack::environment::Step;
use crate::buildpack::failed_step::FailedStep;
use crate::buildpack::order::Participant;
use crate::buildpack::setting::Setting;
use crate::events::Event;
use crate::events::Events;
use crate::events::Stream;
use crate::sandbox::command::Command;
use crate::sandbox::command::Exit;
use crate::sandbox::command::RunAs;
use crate::sandbox::job::Job;

/// Runs `bin/build` to its end, with a private file for its plan; its output goes out as events. Whatever it left
/// running is gone afterwards.
pub fn run(
    job: &dyn Job,
    setting: &Setting,
    participant: &Participant,
    before: &Environment,
    asked: &BuildpackPlan,
    events: &dyn Events,
) -> Result<(), BuildError> {
    let folder = setting
        .paths
        .temporary
        .join("build-plan")
        .join(participant.member.id.escaped());
    let plan = folder.join("plan.toml");
    let layers = setting.paths.layers_of(&participant.member.id);
    job.make_directory(&layers)?;
    job.remove(&folder)?;
    job.make_directory(&folder)?;
    job.write_file(&plan, asked.to_text().as_bytes(), 0o600)?;
    let bindings = setting.paths.platform.join(BINDINGS);
    let secrets = files_for(&setting.secrets, &participant.member.id);
    if !secrets.is_empty() {
        let files: Vec<(&Path, &[u8])> = secrets
            .iter()
            .map(|(path, bytes)| (path.as_path(), *bytes))
            .collect();
        job.show_secrets(&bindings, &files)?;
    }
    let exit = run_with_plan(job, setting, participant, before, &plan, &layers, events)?;
    job.sweep()?;
    if !secrets.is_empty() {
        job.hide_secrets(&bindings)?;
    }
    job.remove(&folder)?;
    check(participant, exit)
}

fn run_with_plan(
    job: &dyn Job,
    setting: &Setting,
    participant: &Participant,
    before: &Environment,
    plan: &Path,
    layers: &Path,
    events: &dyn Events,
) -> Result<Exit, BuildError> {
    let buildpack = &participant.buildpack;
    let program = buildpack.directory.join("bin/build");
    let command = Command {
        name: format!("{} bin/build", participant.name()),
        arguments: vec![
            program.into(),
            layers.into(),
            setting.paths.platform.clone().into(),
            plan.into(),
        ],
        environment: setting.variables(before, buildpack, Step::Build { plan, layers }),
        working_directory: setting.paths.app.clone(),
        run_as: RunAs::User,
        timeout: None,
    };
    let name = participant.name();
    let tell = |stream: Stream, text: String| {
        if !text.is_empty() {
            events.tell(Event::Output {
                buildpack: name.clone(),
                stream,
                text,
            });
        }
    };
    let (stdout, stderr) = (Mutex::new(Text::default()), Mutex::new(Text::default()));
    let text_of = |stream: Stream| match stream {
        Stream::Stdout => &stdout,
        Stream::Stderr => &stderr,
    };
    let exit = job.run(&command, &|stream, bytes| {
        let text = text_of(stream)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes);
        tell(stream, text);
    })?;
    for stream in [Stream::Stdout, Stream::Stderr] {
        let rest = text_of(stream)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rest();
        tell(stream, rest);
    }
    if let Some(visitor) = &setting.visitor {
        let how = match check(participant, exit.clone()) {
            Ok(()) | Err(BuildError::Cancelled) => return Ok(exit),
            Err(error) => error.to_string(),
        };
        let command = &command;
        visitor.visit(&FailedStep { job, command, how });
    }
    Ok(exit)
}

fn check(participant: &Participant, exit: Exit) -> Result<(), BuildError> {
    let buildpack = participant.name();
    let failed = |how: String, exit_code: Option<i32>| BuildError::Failed {
        buildpack: buildpack.clone(),
        how,
        exit_code,
    };
    Err(match exit {
        Exit::Code(0) => return Ok(()),
        Exit::Code(code) => failed(format!("bin/build exited with code {code}"), Some(code)),
        Exit::Signal(signal) => failed(format!("bin/build was ended by signal {signal}"), None),
        Exit::NotStarted { why } => failed(format!("bin/build could not be started: {why}"), None),
        Exit::OverLimit(reached) => BuildError::OverLimit { buildpack, reached },
        Exit::Cancelled => BuildError::Cancelled,
    })
}

/// Makes text of bytes that come in pieces: a character that is cut in two waits for its second part.
#[derive(Default)]
struct Text(Vec<u8>);

impl Text {
    fn take(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let cut = self.0.len() - incomplete_tail(&self.0);
        let rest = self.0.split_off(cut);
        let whole = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }

    fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3).position(|byte| *byte >= 0xc0);
    let Some(back) = last else { return 0 };
    let needed = match bytes[bytes.len() - 1 - back] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    if back + 1 < needed { back + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buildpack::library::Installed;
    use crate::buildpack::library::Library;
    use crate::model::failure::Failure as _;
    use crate::model::limit_reached::Limit;
    use crate::model::limit_reached::LimitReached;
    use packhorse_spec::group_toml::GroupMember;

    #[test]
    fn each_way_to_end_has_its_failure() {
        let descriptor = b"api = '0.12'\n[buildpack]\nid = 'a'\n".to_vec();
        let library = Library::new([Installed {
            directory: "/cnb/buildpacks/a/1".into(),
            descriptor,
            digest: None,
        }]);
        let id = "a".parse().unwrap();
        let (version, buildpack) = library.find(&id, None).unwrap();
        let member = GroupMember {
            id,
            version,
            api: "0.12".into(),
            homepage: String::new(),
        };
        let participant = Participant { member, buildpack };
        assert!(check(&participant, Exit::Code(0)).is_ok());
        let after = std::time::Duration::from_secs(90);
        let cases = [
            (
                Exit::Code(100),
                "buildpack_failed",
                "buildpack a@1 failed in its build step: bin/build exited with code 100",
            ),
            (
                Exit::Signal(11),
                "buildpack_failed",
                "buildpack a@1 failed in its build step: bin/build was ended by signal 11",
            ),
            (
                Exit::OverLimit(LimitReached::of(Limit::WallClock(after))),
                "buildpack_timed_out",
                "buildpack a@1 was still building after 90 seconds",
            ),
            (
                Exit::OverLimit(LimitReached::of(Limit::Output(64 << 20))),
                "buildpack_output_limit",
                "buildpack a@1 wrote more output than the limit of 64 MiB",
            ),
            (
                Exit::OverLimit(LimitReached::of(Limit::Memory(5))),
                "buildpack_out_of_memory",
                "buildpack a@1 used more memory than the limit of 5 bytes",
            ),
            (Exit::Cancelled, "interrupted", "interrupted"),
        ];
        for (exit, code, message) in cases {
            let error = check(&participant, exit).unwrap_err();
            assert_eq!((error.facts().code, error.to_string().as_str()), (code, message));
        }
    }

    #[test]
    fn characters_that_are_cut_in_two_stay_whole() {
        for text in ["aé€😀b", "\u{7ff}\u{800}", ""] {
            for cut in 0..=text.len() {
                let mut decoder = Text::default();
                let (first, second) = text.as_bytes().split_at(cut);
                let all = decoder.take(first) + &decoder.take(second) + &decoder.rest();
                assert_eq!(all, text, "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        let mut decoder = Text::default();
        assert_eq!(decoder.take(b"a\xff"), "a");
        assert_eq!(decoder.take(b"b\xe2\x82"), "\u{fffd}b");
        assert_eq!(decoder.rest(), "\u{fffd}");
    }
}
