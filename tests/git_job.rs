//! Git in jobs: the same answers as without, and the list of what hostile repositories, remotes and URLs try.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use packhorse::git::checkout::Submodules;
use packhorse::git::work_tree::work_tree;
use packhorse::model::source::GitUrl;
use packhorse::model::source::SourceSpec;

use crate::git::Machine;
use crate::git::check;
use crate::git::read;
use crate::support::git::GitServer;
use crate::support::git::Work;
use crate::support::git::git;
use crate::support::git::git_with_input;

macro_rules! the_same_in_jobs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check::$name(Machine::in_jobs);
        })*
    };
}

the_same_in_jobs! {
    a_branch_a_tag_head_and_commits_are_found_over_http
    what_was_fetched_once_is_not_fetched_again
    a_moved_or_rewritten_branch_is_followed
    failures_say_what_is_missing
    a_redirect_on_the_same_host_is_followed
    credentials_come_from_the_url_or_the_users_helper_and_stay_nowhere
    a_token_in_the_users_place_is_tried_when_the_helpers_have_nothing
    ssh_is_run_as_git_runs_it
    limits_hold_and_nothing_stays
    submodules_are_fetched_on_request_and_never_from_this_machine
    a_source_gets_nothing_that_the_users_credentials_have_fetched
    a_cancelled_fetch_ends_at_once
    a_certificate_that_is_not_trusted_is_told_apart
    many_at_once_share_one_mirror
}

#[test]
fn what_would_be_an_option_or_a_helper_is_no_url() {
    for text in [
        "https://forge.example/app#--upload-pack=touch",
        "https://forge.example/app#-u",
        "-u/tmp/program",
        "--upload-pack=touch",
        "ext::sh -c touch%20/tmp/x",
        "ext::sh",
        "fd::17",
        "ssh://-oProxyCommand=touch/app",
        "ssh://me@-oProxyCommand=touch/app",
        "-oProxyCommand=touch:app",
        "me@-oProxyCommand=touch:app",
        "ssh://-me@forge.example/app",
        "git://forge.example/app",
        "ftp://forge.example/app",
    ] {
        assert!(GitUrl::parse(text).is_err(), "{text}");
        let spec = SourceSpec::parse(text, |_| false);
        assert!(!matches!(spec, Ok(SourceSpec::Git(_))), "{text}: {spec:?}");
    }
}

fn commit_of(path: &Path, tree: &[u8]) -> String {
    let words = ["hash-object", "-t", "tree", "--literally", "-w", "--stdin"];
    let tree = git_with_input(path, &words, tree);
    commit_of_tree(path, &tree)
}

fn commit_of_tree(path: &Path, tree: &str) -> String {
    let text = format!("tree {tree}\nauthor a <a@e> 1 +0000\ncommitter c <c@e> 1 +0000\n\nx\n");
    let words = ["hash-object", "-t", "commit", "--literally", "-w", "--stdin"];
    git_with_input(path, &words, text.as_bytes())
}

fn entry(mode: &str, name: &str, object: &str) -> Vec<u8> {
    let raw = (0..20).map(|at| u8::from_str_radix(&object[2 * at..2 * at + 2], 16).unwrap());
    [
        mode.as_bytes(),
        b" ",
        name.as_bytes(),
        b"\0",
        &raw.collect::<Vec<u8>>(),
    ]
    .concat()
}

#[test]
fn a_hostile_tree_is_refused() {
    let work = Work::new();
    work.commit("a.txt", "1");
    let path = work.path();
    let blob = git_with_input(&path, &["hash-object", "-w", "--stdin"], b"/tmp");
    let server = GitServer::start(work.folder.path(), None);
    let trees = [
        entry("100644", "../out", &blob),
        entry("100644", "..", &blob),
        entry("100644", ".git", &blob),
        entry("100644", ".GiT", &blob),
        [entry("120000", "same", &blob), entry("100644", "same", &blob)].concat(),
        entry("060000", "device", &blob),
    ];
    for tree in trees {
        let commit = commit_of(&path, &tree);
        git(&path, &["update-ref", "refs/heads/hostile", &commit]);
        let machine = Machine::in_jobs();
        let (code, message) = machine.fails(&format!("{}/app/.git#hostile", server.url()));
        assert!(
            matches!(code, "source_entry_invalid" | "file_failed" | "source_git_failed"),
            "{code}: {message}"
        );
        assert!(!machine.folder.path().join("checkout").exists());
        assert!(!machine.folder.path().join("out").exists());
    }
}

#[test]
fn links_are_written_and_not_followed_and_large_files_stay_pointers() {
    let work = Work::new();
    std::os::unix::fs::symlink("/etc/passwd", work.path().join("project.toml")).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    fs::write(work.path().join("model.bin"), pointer).unwrap();
    let config = "[lfs]\n\turl = http://127.0.0.1:1/\n";
    fs::write(work.path().join(".lfsconfig"), config).unwrap();
    fs::write(work.path().join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
    work.commit("a.txt", "1");
    let server = GitServer::start(work.folder.path(), None);
    let machine = Machine::in_jobs();
    let folder = machine
        .checkout(&format!("{}/app/.git", server.url()), Submodules::Skip)
        .unwrap();
    assert_eq!(
        fs::read_link(folder.join("project.toml")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(read(&folder, "model.bin"), pointer);
    let warnings = machine.events.warnings();
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("`model.bin`") && text.contains("Git LFS")),
        "{warnings:?}"
    );
}

#[test]
fn bombs_end_by_a_limit() {
    let work = Work::new();
    work.commit("a.txt", "1");
    let path = work.path();
    let blob = git_with_input(&path, &["hash-object", "-w", "--stdin"], b"boom");
    let words = ["hash-object", "-t", "tree", "--literally", "-w", "--stdin"];
    // Ten million files in seven trees.
    let mut below = git_with_input(
        &path,
        &words,
        &(0..10)
            .flat_map(|name| entry("100644", &format!("f{name}"), &blob))
            .collect::<Vec<u8>>(),
    );
    for _ in 0..6 {
        let tree: Vec<u8> = (0..10)
            .flat_map(|name| entry("40000", &format!("d{name}"), &below))
            .collect();
        below = git_with_input(&path, &words, &tree);
    }
    let commit = commit_of_tree(&path, &below);
    git(&path, &["update-ref", "refs/heads/files", &commit]);
    // Two hundred million bytes that are a few hundred thousand on their way.
    git(&path, &["checkout", "-q", "-b", "bytes"]);
    fs::write(path.join("zeros"), vec![0; 200_000_000]).unwrap();
    work.commit_all();
    let server = GitServer::start(work.folder.path(), None);
    let app = format!("{}/app/.git", server.url());

    let mut machine = Machine::in_jobs();
    machine.settings.limits.checkout_entries_max = 5_000;
    machine.settings.limits.checkout_bytes_max = 1_000_000;
    for (branch, unit) in [("files", "5000 files"), ("bytes", "1000000 bytes of files")] {
        let (code, message) = machine.fails(&format!("{app}#{branch}"));
        assert_eq!(code, "source_too_large", "{message}");
        assert!(message.contains(unit), "{message}");
        assert!(!machine.folder.path().join("checkout").exists());
    }
    let mut machine = Machine::in_jobs();
    machine.settings.limits.fetch_objects_max = 2;
    let (code, message) = machine.fails(&format!("{app}#files"));
    assert_eq!(code, "source_too_large", "{message}");
    assert!(message.contains("2 objects to fetch"), "{message}");
    // A file that is read into memory, of which there is less.
    let mut machine = Machine::in_jobs();
    machine.settings.limits.job_memory_bytes_max = 64 << 20;
    let (code, message) = machine.fails(&format!("{app}#bytes"));
    assert_eq!(code, "source_too_large", "{message}");
    assert!(message.contains("bytes of memory"), "{message}");
}

#[test]
fn a_remote_that_says_nothing_ends_by_the_clock() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/app", listener.local_addr().unwrap());
    let mut machine = Machine::in_jobs();
    machine.settings.limits.job_timeout = std::time::Duration::from_millis(500);
    let (code, message) = machine.fails(&url);
    assert_eq!(code, "source_too_large", "{message}");
    drop(listener);
}

/// A server that answers every request with `answer`, and keeps the requests' heads.
fn answering(answer: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    // Ends with the process: it holds nothing but its port.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            kept.lock().unwrap().push(head.join("\n"));
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    (authority, heads)
}

#[test]
fn a_redirect_to_another_host_gets_neither_credentials_nor_a_request() {
    let (other, seen) =
        answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned());
    let (first, _) = answering(format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{other}/app/info/refs?service=git-upload-pack\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    for new in [Machine::new, Machine::in_jobs] {
        let (code, message) = new().fails(&format!("http://me:s3cret@{first}/app"));
        assert_eq!(code, "source_unreachable", "{message}");
        assert!(
            message.contains("another host") && !message.contains("s3cret"),
            "{message}"
        );
    }
    assert_eq!(seen.lock().unwrap().as_slice(), &[] as &[String]);
}

/// The processes that have `word` in their command line.
fn processes_with(word: &str) -> Vec<PathBuf> {
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|process| {
        let words = fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(word)
    })
    .collect()
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|part| part == word.as_bytes())
}

/// Looks for `word` in all that a process has: memory, variables, arguments, open files and root. How much was read.
fn search(process: &Path, word: &str) -> usize {
    let mut read = 0;
    for file in ["environ", "cmdline"] {
        let bytes = fs::read(process.join(file)).unwrap();
        assert!(!contains(&bytes, word), "it is in `{file}`");
    }
    let memory = fs::File::open(process.join("mem")).unwrap();
    for line in fs::read_to_string(process.join("maps")).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next().unwrap(), words.next().unwrap());
        let (start, end) = range.split_once('-').unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(number(end) - number(start)).unwrap()];
        if mode.starts_with("rw") && memory.read_exact_at(&mut bytes, number(start)).is_ok() {
            assert!(!contains(&bytes, word), "it is in memory: {line}");
            read += bytes.len();
        }
    }
    for folder in ["root/mirror", "root/workspace", "root/tmp", "root/etc"] {
        let found = std::process::Command::new("grep")
            .args(["-r", "-q", word])
            .arg(process.join(folder))
            .status();
        assert_eq!(found.unwrap().code(), Some(1), "it is in `{folder}`");
    }
    read
}

#[test]
fn a_job_holds_no_credential() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = listener.local_addr().unwrap().to_string();
    // The encoded form that goes over the wire, and the plain one.
    let encoded = "bWU6dmVyeS1zM2NyZXQtdzByZA";
    let searched = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let head: Vec<String> = lines
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        assert!(head.iter().any(|line| line.contains(encoded)), "{head:?}");
        // The job waits for an answer now.
        let jobs = processes_with("branch-of-a-searched-job");
        let read: usize = jobs
            .iter()
            .map(|job| search(job, "very-s3cret-w0rd") + search(job, encoded))
            .sum();
        drop(stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        (jobs.len(), read)
    });
    let machine = Machine::in_jobs();
    let (code, message) = machine.fails(&format!(
        "http://me:very-s3cret-w0rd@{authority}/app#branch-of-a-searched-job"
    ));
    assert_eq!(code, "source_not_found", "{message}");
    let (jobs, read) = searched.join().unwrap();
    assert!(jobs > 0, "no job was found");
    assert!(read > 100_000, "only {read} bytes of memory were searched");
}

#[test]
fn no_configuration_template_or_hook_has_a_say() {
    let work = Work::new();
    work.commit("a.txt", "1");
    let server = GitServer::start(work.folder.path(), None);
    let home = tempfile::tempdir().unwrap();
    let marker = home.path().join("marker");
    let hooks = home.path().join("template/hooks");
    fs::create_dir_all(&hooks).unwrap();
    let hook = format!("#!/bin/sh\ntouch {}\n", marker.display());
    for name in ["post-checkout", "reference-transaction", "fsmonitor"] {
        let path = hooks.join(name);
        fs::write(&path, &hook).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, executable).unwrap();
    }
    let (template, hooks) = (home.path().join("template"), hooks.display().to_string());
    let config = format!(
        "[init]\n\ttemplateDir = {}\n[core]\n\thooksPath = {hooks}\n\tfsmonitor = {hooks}/fsmonitor\n\
         [url \"file:///nowhere/\"]\n\tinsteadOf = {}/\n",
        template.display(),
        server.url()
    );
    fs::write(home.path().join(".gitconfig"), &config).unwrap();
    let data = home.path().join("data");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_packhorse"))
        .arg("--home")
        .arg(&data)
        .args(["plan", &format!("{}/app/.git#main:missing", server.url())])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("GIT_TEMPLATE_DIR", &template)
        .env("GIT_CONFIG_GLOBAL", home.path().join(".gitconfig"))
        .output()
        .unwrap();
    // All was fetched before the folder was found to be missing.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("subdirectory_not_found"), "{said}");
    assert!(!marker.exists());
    let mirrors: Vec<PathBuf> = fs::read_dir(data.join("git"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "git"))
        .collect();
    assert_eq!(mirrors.len(), 1, "{mirrors:?}");
    assert!(!mirrors[0].join("hooks/post-checkout").exists());

    // A folder as source, whose own configuration anybody may have written.
    fs::write(work.path().join(".git/config"), &config).unwrap();
    let looked = work_tree(&work.path()).unwrap();
    assert!(looked.clean);
    assert!(!marker.exists());
}
