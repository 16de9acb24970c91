//! Git sources: over HTTP, ssh and from files; mirrors, checkouts, submodules and work trees.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use packhorse::events::Cancel;
use packhorse::git::checkout::Submodules;
use packhorse::git::error::GitError;
use packhorse::git::repository::Git;
use packhorse::git::repository::Resolved;
use packhorse::git::settings::Settings;
use packhorse::git::work_tree::work_tree;
use packhorse::git_job::GitJobs;
use packhorse::model::failure::Failure as _;
use packhorse::model::named_by::NamedBy;
use packhorse::model::source::GitUrl;
use packhorse::model::timestamp::Timestamp;
use tempfile::TempDir;

use crate::support::events::Recorder;
use crate::support::git::GitServer;
use crate::support::git::Work;
use crate::support::git::git;
use crate::support::git::git_with_input;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;

/// A machine that fetches.
pub(crate) struct Machine {
    pub(crate) folder: TempDir,
    pub(crate) settings: Settings,
    pub(crate) events: Recorder,
    pub(crate) cancel: Cancel,
    jobs: Option<Arc<GitJobs>>,
}

impl Machine {
    /// One that reads what a remote sends in the test's own process.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path().join("git"));
        // Never the helpers of whoever runs the tests.
        settings.git_program = "false".into();
        Self {
            folder,
            settings,
            events: Recorder::default(),
            cancel: Cancel::default(),
            jobs: None,
        }
    }

    /// One that reads it in jobs.
    pub(crate) fn in_jobs() -> Self {
        let machine = Self::new();
        let ground = crate::sandbox::ground();
        let program = env!("CARGO_BIN_EXE_packhorse").into();
        let jobs = GitJobs::new(machine.folder.path().join("jobs"), ground, program);
        Self {
            // On a rung without walls it is this process, as everywhere.
            jobs: jobs.ok().map(Arc::new),
            ..machine
        }
    }

    pub(crate) fn git(&self) -> Git {
        let git = Git::new(self.settings.clone());
        match &self.jobs {
            Some(jobs) => git.in_jobs(jobs.clone(), false),
            None => git,
        }
    }

    pub(crate) fn resolve(&self, url: &str) -> Result<Resolved, GitError> {
        let url = GitUrl::parse(url).unwrap();
        self.git()
            .resolve(&url, NamedBy::User, &self.events, &self.cancel)
    }

    pub(crate) fn checkout(&self, url: &str, submodules: Submodules) -> Result<PathBuf, GitError> {
        let resolved = self.resolve(url)?;
        let destination = self.folder.path().join("checkout");
        let _old = fs::remove_dir_all(&destination);
        self.git()
            .checkout(&resolved, &destination, submodules, &self.events, &self.cancel)?;
        Ok(destination)
    }

    pub(crate) fn fails(&self, url: &str) -> (&'static str, String) {
        let error = self.checkout(url, Submodules::Fetch).unwrap_err();
        (error.facts().code, error.to_string())
    }

    /// Writes a program that tests stand in for the user's.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

pub(crate) fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap()
}

#[test]
fn a_branch_a_tag_head_and_commits_are_found_over_http() {
    check::a_branch_a_tag_head_and_commits_are_found_over_http(Machine::new);
}

#[test]
fn what_was_fetched_once_is_not_fetched_again() {
    check::what_was_fetched_once_is_not_fetched_again(Machine::new);
}

#[test]
fn a_moved_or_rewritten_branch_is_followed() {
    check::a_moved_or_rewritten_branch_is_followed(Machine::new);
}

#[test]
fn failures_say_what_is_missing() {
    check::failures_say_what_is_missing(Machine::new);
}

#[test]
fn a_redirect_on_the_same_host_is_followed() {
    check::a_redirect_on_the_same_host_is_followed(Machine::new);
}

#[test]
fn credentials_come_from_the_url_or_the_users_helper_and_stay_nowhere() {
    check::credentials_come_from_the_url_or_the_users_helper_and_stay_nowhere(Machine::new);
}

#[test]
fn a_token_in_the_users_place_is_tried_when_the_helpers_have_nothing() {
    check::a_token_in_the_users_place_is_tried_when_the_helpers_have_nothing(Machine::new);
}

#[test]
fn ssh_is_run_as_git_runs_it() {
    check::ssh_is_run_as_git_runs_it(Machine::new);
}

#[test]
fn a_checkout_has_gits_modes_and_runs_nothing() {
    let work = Work::new();
    fs::write(work.path().join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(work.path().join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", work.path().join("link")).unwrap();
    fs::write(
        work.path().join(".gitattributes"),
        "*.txt text eol=crlf ident filter=evil\n",
    )
    .unwrap();
    fs::write(
        work.path().join("model.bin"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    )
    .unwrap();
    work.commit("a.txt", "$Id$\n");
    let machine = Machine::new();
    let before = std::time::SystemTime::now() - Duration::from_secs(5);
    let folder = machine
        .checkout(&format!("file://{}", work.path().display()), Submodules::Skip)
        .unwrap();
    assert_eq!(read(&folder, "a.txt"), "$Id$\n");
    let mode = |file: &str| {
        fs::symlink_metadata(folder.join(file))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("run"), mode("a.txt")), (0o755, 0o644));
    assert_eq!(
        fs::read_link(folder.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert!(fs::metadata(folder.join("a.txt")).unwrap().modified().unwrap() > before);
    assert!(!folder.join(".git").exists());
    let warnings = machine.events.warnings();
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("`model.bin`") && text.contains("Git LFS")),
        "{warnings:?}"
    );
}

#[test]
fn limits_hold_and_nothing_stays() {
    check::limits_hold_and_nothing_stays(Machine::new);
}

#[test]
fn a_hostile_tree_writes_nothing_outside() {
    let work = Work::new();
    work.commit("a.txt", "1");
    let path = work.path();
    let blob = git_with_input(&path, &["hash-object", "-w", "--stdin"], b"/tmp");
    let raw: Vec<u8> = (0..20)
        .map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let entry = |mode: &str, name: &str| [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &raw].concat();
    let trees = [
        entry("100644", "../out"),
        entry("100644", ".."),
        entry("100644", ".GIT"),
        [entry("120000", "same"), entry("100644", "same")].concat(),
        entry("060000", "device"),
    ];
    for tree in trees {
        let tree = git_with_input(
            &path,
            &["hash-object", "-t", "tree", "--literally", "-w", "--stdin"],
            &tree,
        );
        let commit = git_with_input(
            &path,
            &["hash-object", "-t", "commit", "--literally", "-w", "--stdin"],
            format!("tree {tree}\nauthor a <a@e> 1 +0000\ncommitter c <c@e> 1 +0000\n\nx\n").as_bytes(),
        );
        git(&path, &["update-ref", "refs/heads/hostile", &commit]);
        let machine = Machine::new();
        let (code, message) = machine.fails(&format!("file://{}#hostile", path.display()));
        assert!(
            matches!(code, "source_entry_invalid" | "file_failed" | "source_git_failed"),
            "{code}: {message}"
        );
        let left: Vec<_> = fs::read_dir(machine.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["git"]);
    }
}

#[test]
fn submodules_are_fetched_on_request_and_never_from_this_machine() {
    check::submodules_are_fetched_on_request_and_never_from_this_machine(Machine::new);
}

#[test]
fn a_source_gets_nothing_that_the_users_credentials_have_fetched() {
    check::a_source_gets_nothing_that_the_users_credentials_have_fetched(Machine::new);
}

#[test]
fn a_cancelled_fetch_ends_at_once() {
    check::a_cancelled_fetch_ends_at_once(Machine::new);
}

#[test]
fn a_work_tree_is_clean_by_its_part() {
    let work = Work::new();
    work.commit(".gitignore", "*.log\n");
    let commit = work.commit("web/a.txt", "1");
    git(
        &work.path(),
        &[
            "remote",
            "add",
            "origin",
            "https://me:s3cret@forge.example/team/app.git",
        ],
    );
    let looked = work_tree(&work.path().join("web")).unwrap();
    assert_eq!(
        (looked.commit.as_str(), looked.time, looked.clean),
        (commit.as_str(), Timestamp(1_700_000_000), true)
    );
    assert_eq!(
        looked.canonical.as_deref(),
        Some("https://forge.example/team/app")
    );
    fs::write(work.path().join("x.log"), "ignored").unwrap();
    assert!(work_tree(&work.path()).unwrap().clean);
    fs::write(work.path().join("new.txt"), "untracked").unwrap();
    assert!(!work_tree(&work.path()).unwrap().clean);
    assert!(work_tree(&work.path().join("web")).unwrap().clean);
    fs::write(work.path().join("web/a.txt"), "changed").unwrap();
    assert!(!work_tree(&work.path().join("web")).unwrap().clean);
    fs::create_dir(work.path().join("other")).unwrap();
    assert!(!work_tree(&work.path().join("other")).unwrap().clean);
    assert_eq!(work_tree(tempfile::tempdir().unwrap().path()), None);
    assert_eq!(work_tree(&Work::new().path()), None);
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_apart() {
    check::a_certificate_that_is_not_trusted_is_told_apart(Machine::new);
}

#[test]
fn many_at_once_share_one_mirror() {
    check::many_at_once_share_one_mirror(Machine::new);
}

/// What holds whoever reads what a remote sends: this process, or a job.
pub(crate) mod check {
    use super::*;

    pub(crate) fn a_branch_a_tag_head_and_commits_are_found_over_http(new: fn() -> Machine) {
        let work = Work::new();
        let first = work.commit("a.txt", "1");
        git(&work.path(), &["tag", "-a", "v1", "-m", "one"]);
        let second = work.commit("a.txt", "2");
        let third = work.commit("web/a.txt", "3");
        git(&work.path(), &["branch", "feature/x", &second]);
        let server = GitServer::start(work.folder.path(), None);
        let app = format!("{}/app/.git", server.url());
        for (fragment, commit, name) in [
            ("", &third, Some("main")),
            ("#main", &third, Some("main")),
            ("#feature/x", &second, Some("feature/x")),
            ("#v1", &first, Some("v1")),
            ("#refs/tags/v1", &first, Some("v1")),
            (&format!("#{second}"), &second, None),
            (&format!("#{}", &first[..9]), &first, None),
        ] {
            let machine = new();
            let resolved = machine.resolve(&format!("{app}{fragment}")).unwrap();
            assert_eq!(
                (&resolved.commit, resolved.name.as_deref()),
                (commit, name),
                "{fragment}"
            );
            assert_eq!(resolved.commit_time, Timestamp(1_700_000_000));
        }
        let machine = new();
        let folder = machine
            .checkout(&format!("{app}#main:web"), Submodules::Skip)
            .unwrap();
        assert_eq!(read(&folder, "a.txt"), "3");
        assert!(!folder.join("web").exists());
    }

    pub(crate) fn what_was_fetched_once_is_not_fetched_again(new: fn() -> Machine) {
        let work = Work::new();
        let numbers = (0..200_000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string());
        let noise = numbers.collect::<Vec<_>>().concat();
        let first = work.commit("large.txt", &noise);
        work.commit("small.txt", "1");
        let server = GitServer::start(work.folder.path(), None);
        let machine = new();
        let app = format!("{}/app/.git", server.url());

        machine.resolve(&app).unwrap();
        let (requests, bytes) = server.take_requests();
        // A shallow fetch is two requests in git's protocol: first the server says where history is cut.
        assert_eq!(requests.len(), 3, "{requests:?}");
        assert!(bytes > 500_000, "{bytes}");
        assert!(machine.events.progress("fetch").is_some());

        let unchanged = machine.resolve(&app).unwrap();
        let (requests, _) = server.take_requests();
        assert_eq!(requests, ["GET /app/.git/info/refs?service=git-upload-pack"]);

        machine.resolve(&format!("{app}#{}", unchanged.commit)).unwrap();
        assert_eq!(server.take_requests().0, Vec::<String>::new());

        let changed = work.commit("small.txt", "2");
        let folder = machine
            .checkout(&format!("{app}#main"), Submodules::Skip)
            .unwrap();
        assert_eq!(
            (
                read(&folder, "small.txt").as_str(),
                read(&folder, "large.txt") == noise
            ),
            ("2", true)
        );
        assert!(server.take_requests().1 < 100_000, "the large file came again");

        // A commit that only the whole history has, after shallow fetches.
        assert_eq!(
            machine.resolve(&format!("{app}#{}", &first[..8])).unwrap().commit,
            first
        );
        assert_eq!(machine.resolve(&format!("{app}#{first}")).unwrap().commit, first);
        assert_eq!(machine.resolve(&app).unwrap().commit, changed);
    }

    pub(crate) fn a_moved_or_rewritten_branch_is_followed(new: fn() -> Machine) {
        let work = Work::new();
        work.commit("a.txt", "1");
        let server = GitServer::start(work.folder.path(), None);
        let machine = new();
        let app = format!("{}/app/.git#topic", server.url());
        git(&work.path(), &["checkout", "-q", "-b", "topic"]);
        work.commit("a.txt", "2");
        machine.resolve(&app).unwrap();
        git(&work.path(), &["reset", "-q", "--hard", "main"]);
        let other = work.commit("b.txt", "3");
        assert_eq!(machine.resolve(&app).unwrap().commit, other);
        // `topic` gives way to `topic/a`.
        git(&work.path(), &["branch", "-m", "topic", "tmp"]);
        git(&work.path(), &["branch", "-m", "tmp", "topic/a"]);
        assert_eq!(machine.resolve(&format!("{app}/a")).unwrap().commit, other);
        for number in 0..4 {
            let commit = work.commit("b.txt", &format!("again {number}"));
            let folder = machine.checkout(&format!("{app}/a"), Submodules::Skip).unwrap();
            assert_eq!(read(&folder, "b.txt"), format!("again {number}"));
            assert_eq!(machine.resolve(&format!("{app}/a")).unwrap().commit, commit);
        }
    }

    pub(crate) fn failures_say_what_is_missing(new: fn() -> Machine) {
        let work = Work::new();
        let commit = work.commit("a.txt", "1");
        let server = GitServer::start(work.folder.path(), None);
        let machine = new();
        let app = format!("{}/app/.git", server.url());
        let (code, message) = machine.fails(&format!("{app}#mian"));
        assert_eq!(code, "revision_not_found");
        assert!(message.contains("`mian`; there are `main`"), "{message}");
        for missing in ["0123456789", "0123456789012345678901234567890123456789"] {
            assert_eq!(machine.fails(&format!("{app}#{missing}")).0, "revision_not_found");
        }
        let (code, message) = machine.fails(&format!("{app}#main:web"));
        assert_eq!(code, "subdirectory_not_found");
        assert!(
            message.contains("`web`") && message.contains(&commit),
            "{message}"
        );
        assert_eq!(
            machine.fails(&format!("{app}#main:a.txt")).0,
            "subdirectory_not_found"
        );
        assert_eq!(
            machine.fails(&format!("{}/missing", server.url())).0,
            "source_not_found"
        );
        assert_eq!(machine.fails("http://127.0.0.1:1/app").0, "source_unreachable");
        assert_eq!(machine.fails("http://192.0.2.1/app").0, "source_plain_http");
        let (code, message) = machine.fails("file:///nowhere/app");
        assert_eq!(code, "source_not_found", "{message}");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            machine.fails(&format!("file://{}", folder.path().display())).0,
            "source_not_found"
        );
        let empty = Work::new();
        assert_eq!(
            machine.fails(&format!("file://{}", empty.path().display())).0,
            "revision_not_found"
        );
    }

    pub(crate) fn a_redirect_on_the_same_host_is_followed(new: fn() -> Machine) {
        let work = Work::new();
        let commit = work.commit("a.txt", "1");
        let server = GitServer::start(work.folder.path(), None);
        let resolved = new()
            .resolve(&format!("{}/redirect/app/.git", server.url()))
            .unwrap();
        assert_eq!(resolved.commit, commit);
        let (requests, _) = server.take_requests();
        assert_eq!(
            requests.last().map(String::as_str),
            Some("POST /app/.git/git-upload-pack")
        );
    }

    pub(crate) fn credentials_come_from_the_url_or_the_users_helper_and_stay_nowhere(new: fn() -> Machine) {
        let work = Work::new();
        let commit = work.commit("a.txt", "1");
        let server = GitServer::start(work.folder.path(), Some("me:s3cret"));
        let plain = format!("{}/app/.git", server.url());
        let with_password = format!("http://me:s3cret@{}/app/.git", server.authority());

        let mut machine = new();
        let (code, message) = machine.fails(&plain);
        assert_eq!(code, "source_credentials_needed");
        assert!(message.contains("credential helpers have none"), "{message}");
        let resolved = machine.resolve(&with_password).unwrap();
        assert_eq!(resolved.commit, commit);
        assert_eq!(resolved.canonical, Some(format!("{}/app", server.url())));
        let found = std::process::Command::new("grep")
            .args(["-r", "s3cret"])
            .arg(machine.folder.path())
            .output()
            .unwrap();
        assert!(
            found.stdout.is_empty(),
            "{}",
            String::from_utf8_lossy(&found.stdout)
        );

        let log = machine.folder.path().join("log");
        let helper = |password: &str| {
            format!(
                "#!/bin/sh\n{{ echo \"$* prompt=$GIT_TERMINAL_PROMPT\"; cat; }} >>{}\n\
                 [ \"$2\" = fill ] && printf 'protocol=http\\nhost={}\\nusername=me\\npassword={password}\\n'\nexit 0\n",
                log.display(),
                server.authority()
            )
        };
        machine.settings.mirrors_directory = machine.folder.path().join("second");
        machine.settings.git_program = machine.script("git-good", &helper("s3cret")).into();
        assert_eq!(machine.resolve(&plain).unwrap().commit, commit);
        let said = fs::read_to_string(&log).unwrap();
        assert!(
            said.starts_with("credential fill prompt=0\nprotocol=http\nhost=127.0.0.1:"),
            "{said}"
        );
        assert!(
            said.contains("credential approve") && !said.contains("credential reject"),
            "{said}"
        );

        fs::remove_file(&log).unwrap();
        machine.settings.git_program = machine.script("git-bad", &helper("wrong")).into();
        assert_eq!(machine.fails(&plain).0, "source_credentials_needed");
        let said = fs::read_to_string(&log).unwrap();
        assert!(
            said.contains("credential reject") && !said.contains("credential approve"),
            "{said}"
        );
    }

    pub(crate) fn a_token_in_the_users_place_is_tried_when_the_helpers_have_nothing(new: fn() -> Machine) {
        let work = Work::new();
        let commit = work.commit("a.txt", "1");
        let server = GitServer::start(work.folder.path(), Some("t0ken:"));
        let machine = new();
        let with_user = |user: &str| format!("http://{user}@{}/app/.git", server.authority());
        assert_eq!(machine.resolve(&with_user("t0ken")).unwrap().commit, commit);
        let (code, message) = machine.fails(&with_user("other"));
        assert_eq!(code, "source_credentials_needed");
        assert!(message.contains("are refused"), "{message}");
        // What needs no credentials is not asked with a token.
        let open = GitServer::start(work.folder.path(), None);
        let url = format!("http://me@{}/app/.git", open.authority());
        assert_eq!(machine.resolve(&url).unwrap().commit, commit);
    }

    pub(crate) fn ssh_is_run_as_git_runs_it(new: fn() -> Machine) {
        let work = Work::new();
        let commit = work.commit("a.txt", "1");
        let mut machine = new();
        let log = machine.folder.path().join("log");
        let ssh = machine.script(
            "ssh",
            &format!("#!/bin/sh\nfor word in \"$@\"; do echo \"$word\"; done >{}\neval last=\\${{$#}}\nexec sh -c \"$last\"\n", log.display()),
        );
        machine.settings.ssh_command = vec![ssh.into(), "-o".into(), "BatchMode=yes".into()];
        let path = work.path();
        let folder = machine
            .checkout(
                &format!("ssh://me@forge.example:2222{}/.git#main", path.display()),
                Submodules::Skip,
            )
            .unwrap();
        assert_eq!(read(&folder, "a.txt"), "1");
        let said = fs::read_to_string(&log).unwrap();
        let expected = format!(
            "-o\nBatchMode=yes\n-p\n2222\n--\nme@forge.example\ngit-upload-pack '{}/.git'\n",
            path.display()
        );
        assert_eq!(said, expected);
        let resolved = machine
            .resolve(&format!("me@forge.example:{}/.git", path.display()))
            .unwrap();
        assert_eq!(
            (resolved.commit, resolved.canonical.unwrap()),
            (commit.clone(), format!("ssh://forge.example{}", path.display()))
        );
        let changed = work.commit("a.txt", "2");
        assert_eq!(
            machine
                .resolve(&format!("me@forge.example:{}/.git", path.display()))
                .unwrap()
                .commit,
            changed
        );
        assert_eq!(
            machine
                .resolve(&format!(
                    "me@forge.example:{}/.git#{}",
                    path.display(),
                    &commit[..7]
                ))
                .unwrap()
                .commit,
            commit
        );

        let refused = machine.script(
            "ssh-refused",
            "#!/bin/sh\necho 'me@forge: Permission denied (publickey).' >&2\nexit 255\n",
        );
        machine.settings.ssh_command = vec![refused.into()];
        let (code, message) = machine.fails("me@forge.example:app");
        assert_eq!(code, "source_credentials_needed");
        assert!(message.contains("Permission denied (publickey)"), "{message}");
        machine.settings.ssh_command = vec!["/nowhere/ssh".into()];
        assert_eq!(machine.fails("me@forge.example:other").0, "source_program_failed");
    }

    pub(crate) fn limits_hold_and_nothing_stays(new: fn() -> Machine) {
        let work = Work::new();
        work.commit("a.txt", &"x".repeat(5000));
        work.commit("deep/er/b.txt", "1");
        let url = format!("file://{}", work.path().display());
        let set: [fn(&mut Settings); 4] = [
            |settings| settings.limits.checkout_bytes_max = 4999,
            |settings| settings.limits.checkout_entries_max = 3,
            |settings| settings.limits.checkout_depth_max = 1,
            |settings| settings.limits.refs_max = 1,
        ];
        for set in set {
            let mut machine = new();
            set(&mut machine.settings);
            assert_eq!(machine.fails(&url).0, "source_too_large");
            assert!(!machine.folder.path().join("checkout").exists());
        }
        let server = GitServer::start(work.folder.path(), None);
        let mut machine = new();
        machine.settings.limits.fetch_bytes_max = 10;
        assert_eq!(
            machine.fails(&format!("{}/app/.git", server.url())).0,
            "source_too_large"
        );
    }

    pub(crate) fn submodules_are_fetched_on_request_and_never_from_this_machine(new: fn() -> Machine) {
        let library = Work::new();
        library.commit("lib.txt", "library");
        let pinned = library.commit("lib.txt", "newer");
        library.commit("lib.txt", "newest");
        let work = Work::new();
        git(
            work.folder.path(),
            &[
                "clone",
                "-q",
                "--bare",
                library.path().to_str().unwrap(),
                "lib.git",
            ],
        );
        work.commit("a.txt", "1");
        let add = |url: &str, path: &str| {
            let modules = work.path().join(".gitmodules");
            let old = fs::read_to_string(&modules).unwrap_or_default();
            fs::write(
                &modules,
                format!("{old}[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n"),
            )
            .unwrap();
            git(
                &work.path(),
                &[
                    "update-index",
                    "--add",
                    "--cacheinfo",
                    &format!("160000,{pinned},{path}"),
                ],
            );
            git(&work.path(), &["add", ".gitmodules"]);
            git(&work.path(), &["commit", "-q", "-m", "submodule"]);
        };
        add("../../lib.git", "vendor/lib");
        let server = GitServer::start(work.folder.path(), None);
        let app = format!("{}/app/.git", server.url());

        let machine = new();
        let folder = machine.checkout(&app, Submodules::Skip).unwrap();
        assert_eq!(fs::read_dir(folder.join("vendor/lib")).unwrap().count(), 0);
        assert!(
            machine
                .events
                .warnings()
                .iter()
                .any(|text| text.contains("`vendor/lib`"))
        );
        let folder = machine.checkout(&app, Submodules::Fetch).unwrap();
        assert_eq!(read(&folder, "vendor/lib/lib.txt"), "newer");
        let folder = machine
            .checkout(&format!("{app}#main:vendor"), Submodules::Fetch)
            .unwrap();
        assert_eq!(read(&folder, "lib/lib.txt"), "newer");

        add(&format!("file://{}", library.path().display()), "local");
        let (code, message) = machine.fails(&app);
        assert_eq!(code, "submodule_refused");
        assert!(
            message.contains("`local`") && message.contains("files of this machine"),
            "{message}"
        );
        // Nor may a source that is itself a file, whose relative submodule is a file too.
        let (code, message) = machine.fails(&format!("file://{}/.git", work.path().display()));
        assert_eq!(code, "submodule_refused");
        assert!(message.contains("files of this machine"), "{message}");
    }

    pub(crate) fn a_source_gets_nothing_that_the_users_credentials_have_fetched(new: fn() -> Machine) {
        let private = Work::new();
        let secret = private.commit("secret.txt", "secret");
        let work = Work::new();
        let from = private.path();
        let clone = ["clone", "-q", "--bare", from.to_str().unwrap(), "private.git"];
        git(work.folder.path(), &clone);
        work.commit(
            ".gitmodules",
            "[submodule \"stolen\"]\n\tpath = stolen\n\turl = ../../private.git\n",
        );
        let entry = format!("160000,{secret},stolen");
        git(&work.path(), &["update-index", "--add", "--cacheinfo", &entry]);
        git(&work.path(), &["commit", "-q", "-m", "submodule"]);
        let server = GitServer::start(work.folder.path(), Some("me:s3cret"));
        let with_password = format!("http://me:s3cret@{}", server.authority());

        let machine = new();
        let known = machine.resolve(&format!("{with_password}/private.git")).unwrap();
        assert_eq!(known.commit, secret);
        // It is in a mirror now, and the commit is known to whoever wrote the source.
        let (code, message) = machine.fails(&format!("{with_password}/app/.git"));
        assert_eq!(code, "source_credentials_needed", "{message}");
        assert!(message.contains("/private.git"), "{message}");
    }

    pub(crate) fn a_cancelled_fetch_ends_at_once(new: fn() -> Machine) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/app", listener.local_addr().unwrap());
        let machine = new();
        let cancel = machine.cancel.clone();
        let held = thread::spawn(move || {
            // The connection is there, then silence.
            let connection = listener.accept().unwrap();
            cancel.cancel();
            (listener, connection)
        });
        let start = Instant::now();
        assert_eq!(machine.fails(&url).0, "interrupted");
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(held.join().unwrap());
    }

    pub(crate) fn a_certificate_that_is_not_trusted_is_told_apart(new: fn() -> Machine) {
        let server = DockerRegistry::start(Guard::Tls);
        let mut machine = new();
        let url = format!("https://{}/app", server.host());
        assert_eq!(machine.fails(&url).0, "source_certificate");
        // With its CA it is a server, but not one of git's.
        machine.settings.http.ca_files = vec![server.ca_file()];
        assert_eq!(machine.fails(&url).0, "source_not_found");
    }

    pub(crate) fn many_at_once_share_one_mirror(new: fn() -> Machine) {
        let work = Work::new();
        let commit = work.commit("a.txt", "1");
        let server = GitServer::start(work.folder.path(), None);
        let machine = new();
        let url = format!("{}/app/.git", server.url());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| machine.resolve(&url).unwrap().commit))
                .collect();
            for worker in workers {
                assert_eq!(worker.join().unwrap(), commit);
            }
        });
        let (requests, _) = server.take_requests();
        let packs = requests
            .iter()
            .filter(|request| request.starts_with("POST"))
            .count();
        assert_eq!((requests.len(), packs), (8, 2), "{requests:?}");
    }
}
