//! Sources in git: revisions, subdirectories, transports, credentials, submodules; each built to an image.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use crate::support::app::Folder;
use crate::support::git::GitServer;
use crate::support::git::Work;
use crate::support::git::git;
use crate::support::home::Machine;
use crate::support::image::Image;
use crate::support::image::holds_text;
use crate::support::run::Run;

/// A machine that builds from git with the two-script buildpack.
struct Builder {
    machine: Machine,
    buildpack: Folder,
    builds: Cell<u32>,
}

impl Builder {
    fn new() -> Self {
        // Alone, since the whole store is searched for secrets.
        Self {
            machine: Machine::alone(),
            buildpack: Folder::buildpack("two-scripts"),
            builds: Cell::new(0),
        }
    }

    /// The last build's output.
    fn layout(&self) -> String {
        format!(
            "oci:{}",
            self.machine
                .folder()
                .join(format!("image-{}", self.builds.get()))
                .display()
        )
    }

    fn build(&self, source: &str, more: &[&str]) -> Run {
        self.builds.set(self.builds.get() + 1);
        let layout = self.layout();
        let arguments = [
            "build",
            source,
            "--buildpack",
            &self.buildpack.text(),
            "-o",
            &layout,
        ]
        .map(str::to_owned);
        let arguments: Vec<&str> = arguments
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        self.machine.run(&arguments)
    }

    /// The text that the image was built from.
    fn built(&self) -> String {
        Image::read(&self.layout())
            .file("layers/test_two-scripts/greeting/text")
            .unwrap()
    }
}

/// Three commits: `one` is tagged v1, `two` is on feature/x, `three` is on main; each has an app in `web` as well.
fn history() -> (Work, [String; 3]) {
    let work = Work::new();
    let commits = ["one", "two", "three"].map(|text| {
        fs::create_dir_all(work.path().join("web")).unwrap();
        fs::write(work.path().join("web/hello.txt"), format!("web {text}")).unwrap();
        work.commit("hello.txt", text)
    });
    git(&work.path(), &["tag", "-a", "v1", "-m", "one", &commits[0]]);
    git(&work.path(), &["branch", "feature/x", &commits[1]]);
    (work, commits)
}

#[test]
fn every_way_to_name_a_revision_builds_it() {
    let (work, commits) = history();
    let server = GitServer::start(work.folder.path(), None);
    let builder = Builder::new();
    for base in [
        format!("{}/app/.git", server.url()),
        format!("file://{}", work.path().display()),
    ] {
        for (fragment, text, commit) in [
            (String::new(), "three", &commits[2]),
            ("#main".to_owned(), "three", &commits[2]),
            ("#feature/x".to_owned(), "two", &commits[1]),
            ("#v1".to_owned(), "one", &commits[0]),
            ("#v1:web".to_owned(), "web one", &commits[0]),
            (format!("#{}", commits[1]), "two", &commits[1]),
            (format!("#{}", &commits[1][..10]), "two", &commits[1]),
        ] {
            builder.build(&format!("{base}{fragment}"), &[]).ok();
            assert_eq!(builder.built(), text, "{base}{fragment}");
            let image = Image::read(&builder.layout());
            assert_eq!(image.label("org.opencontainers.image.revision"), commit);
            // The commit's time.
            assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
            let project = image.json_label("io.buildpacks.project.metadata");
            assert_eq!(project["source"]["version"]["commit"], commit.as_str());
        }
    }
}

#[test]
fn a_directory_is_its_commit_as_long_as_nothing_is_changed_in_it() {
    let work = Work::new();
    let commit = work.commit("hello.txt", "one");
    git(
        &work.path(),
        &["remote", "add", "origin", "https://forge.example/team/app.git"],
    );
    let builder = Builder::new();
    let image = || {
        builder.build(&work.path().display().to_string(), &[]).ok();
        Image::read(&builder.layout())
    };
    let clean = image();
    assert_eq!(clean.label("org.opencontainers.image.revision"), commit);
    assert_eq!(
        clean.label("org.opencontainers.image.source"),
        "https://forge.example/team/app"
    );
    // The commit's time.
    assert_eq!(clean.config["created"], "2023-11-14T22:13:20Z");
    fs::write(work.path().join("hello.txt"), "two").unwrap();
    let changed = image();
    let labels = &changed.config["config"]["Labels"];
    for name in ["revision", "source"] {
        assert!(
            labels.get(format!("org.opencontainers.image.{name}")).is_none(),
            "{labels}"
        );
    }
    assert_eq!(changed.config["created"], "1980-01-01T00:00:01Z");
}

#[test]
fn a_file_url_names_no_source_in_the_labels() {
    let (work, _) = history();
    let builder = Builder::new();
    builder
        .build(&format!("file://{}", work.path().display()), &[])
        .ok();
    let image = Image::read(&builder.layout());
    assert!(
        image.config["config"]["Labels"]
            .get("org.opencontainers.image.source")
            .is_none()
    );
    assert!(
        !image
            .config
            .to_string()
            .contains(&work.folder.path().display().to_string())
    );
}

#[test]
fn the_users_credential_helper_is_asked() {
    let (work, _) = history();
    let server = GitServer::start(work.folder.path(), Some("me:s3cret"));
    let builder = Builder::new();
    let script = "!f() { test \"$1\" = get && printf 'username=me\\npassword=s3cret\\n'; }; f";
    let escaped = script.replace('\\', "\\\\").replace('"', "\\\"");
    builder
        .machine
        .write(".gitconfig", &format!("[credential]\n\thelper = \"{escaped}\"\n"));
    let run = builder.build(&format!("{}/app/.git#v1", server.url()), &[]).ok();
    assert_eq!(builder.built(), "one");
    no_secret(&builder, &run, &["s3cret"]);
}

#[test]
fn a_password_in_the_url_is_used_and_appears_nowhere() {
    let (work, _) = history();
    let server = GitServer::start(work.folder.path(), Some("someone:s3cretw0rd"));
    let builder = Builder::new();
    let url = format!(
        "http://someone:s3cretw0rd@{}/app/.git#main:web",
        server.authority()
    );
    let report = builder.machine.folder().join("report").display().to_string();
    let run = builder.build(&url, &["--report-output-dir", &report]).ok();
    assert_eq!(builder.built(), "web three");
    no_secret(&builder, &run, &["s3cretw0rd", "someone"]);
    let image = Image::read(&builder.layout());
    let source = format!("{}{}", image.config, image.manifest);
    assert!(
        !source.contains("someone") && !source.contains("s3cretw0rd"),
        "{source}"
    );
    // A failure names the URL without them too.
    let failed = builder
        .build(
            &url.replace("#main", "#nowhere"),
            &["--report-output-dir", &report],
        )
        .fails(10, "revision_not_found");
    no_secret(&builder, &failed, &["s3cretw0rd", "someone"]);
}

#[test]
fn credentials_never_enter_the_sandbox() {
    let (work, _) = history();
    let server = GitServer::start(work.folder.path(), Some("someone:s3cretw0rd"));
    let machine = Machine::new();
    let spy = Folder::scripts(
        "spy",
        "exit 0",
        "env; cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; cat .git/config || true",
    );
    let url = format!("http://someone:s3cretw0rd@{}/app/.git", server.authority());
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let run = machine
        .run(&[
            "build",
            &url,
            "--keep-git",
            "--buildpack",
            &spy.text(),
            "-o",
            &layout,
        ])
        .ok();
    assert!(run.stderr.contains("CNB_"), "{run:?}");
    assert!(!run.all().contains("s3cretw0rd"), "{run:?}");
}

#[test]
fn submodules_come_along_when_they_are_asked_for() {
    let library = Work::new();
    library.commit("lib.txt", "from the submodule");
    let (work, _) = history();
    fs::rename(library.path(), work.folder.path().join("library")).unwrap();
    let server = GitServer::start(work.folder.path(), None);
    // A relative URL, so that it is the same server's.
    git(
        &work.path(),
        &[
            "submodule",
            "--quiet",
            "add",
            &format!("file://{}/library", work.folder.path().display()),
            "library",
        ],
    );
    git(
        &work.path(),
        &[
            "config",
            "-f",
            ".gitmodules",
            "submodule.library.url",
            "../../library/.git",
        ],
    );
    work.commit_all();
    let builder = Builder::new();
    let url = format!("{}/app/.git", server.url());
    let library = || Image::read(&builder.layout()).file("workspace/library/lib.txt");
    builder.build(&url, &[]).ok();
    assert_eq!(library(), None);
    builder.build(&url, &["--submodules"]).ok();
    assert_eq!(library().as_deref(), Some("from the submodule"));
}

#[test]
fn a_mirror_fetches_only_what_is_new() {
    let (work, _) = history();
    let server = GitServer::start(work.folder.path(), None);
    let builder = Builder::new();
    let url = format!("{}/app/.git#main", server.url());
    builder.build(&url, &[]).ok();
    let (_, first) = server.take_requests();
    assert!(first > 0);
    builder.build(&url, &[]).ok();
    let (requests, _) = server.take_requests();
    assert!(
        requests
            .iter()
            .all(|request| request.starts_with("GET") || request.contains("upload-pack")),
        "{requests:?}"
    );
    assert!(requests.len() <= 2, "nothing is new: {requests:?}");
}

/// The words are in nothing that packhorse said, reported or kept.
fn no_secret(builder: &Builder, run: &Run, words: &[&str]) {
    for word in words {
        assert!(!run.all().contains(word), "{word} was printed: {run:?}");
        // All of the store but the base's own files.
        for folder in fs::read_dir(builder.machine.store()).unwrap().flatten() {
            if folder.file_name() != "bases" {
                assert_eq!(
                    holds_text(&folder.path(), word),
                    [] as [&Path; 0],
                    "{word} was kept"
                );
            }
        }
        for folder in fs::read_dir(builder.machine.folder()).unwrap().flatten() {
            if !["home", "store"].iter().any(|name| folder.file_name() == *name) {
                assert_eq!(
                    holds_text(&folder.path(), word),
                    [] as [&Path; 0],
                    "{word} was written"
                );
            }
        }
    }
}
