//! The network of a build: what a policy lets through, what is said of the rest, and what an upstream proxy stays hidden
//! from.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;

use crate::support::app::Folder;
use crate::support::home::Machine;

/// Prints the head of what a server says; fails where there is no connection.
const ASK: &str =
    "exec 3<>/dev/tcp/$(cat host.txt)/$(cat port.txt); printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";

fn buildpack(name: &str, detect: &str, build: &str) -> Folder {
    let quoted = |script: &str| format!("exec bash -ec {}", shlex::try_quote(script).unwrap());
    Folder::scripts(name, &quoted(detect), &quoted(build))
}

fn app(host: &str, port: u16) -> Folder {
    Folder::new(&[("host.txt", host), ("port.txt", &port.to_string())])
}

/// A server on loopback that says `hello from outside` to everybody.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // All of it: what is not read when the connection is closed resets it.
            let mut asked = Vec::new();
            let mut piece = [0; 1024];
            while !asked.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => asked.extend_from_slice(&piece[..length]),
                }
            }
            let _gone = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello from outside\n");
        }
    });
    port
}

fn layout(machine: &Machine) -> String {
    format!("oci:{}", machine.folder().join("image").display())
}

fn report(machine: &Machine) -> serde_json::Value {
    let text = std::fs::read_to_string(machine.folder().join("report/report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_listed_address_is_reached_on_its_port_and_nothing_else() {
    let port = server();
    let machine = Machine::new();
    let asks = buildpack("asks", "true", ASK);
    let policy = format!("allow:127.0.0.1:{port}");
    let build = |host: &str, policy: &str| {
        let (app, layout, reports) = (
            app(host, port),
            layout(&machine),
            machine.folder().join("report").display().to_string(),
        );
        let mut arguments = vec!["build", "--force", "-o", &layout, "--report-output-dir", &reports];
        let (app, asks) = (app.text(), asks.text());
        arguments.extend(["--buildpack", &asks, "--network", policy, &app]);
        machine.run(&arguments)
    };
    let run = build("127.0.0.1", &policy).ok();
    assert!(run.stderr.contains("hello from outside"), "{run:?}");

    let run = build("192.0.2.1", &policy).fails(51, "buildpack_failed");
    let message = run.message();
    assert!(
        run.stderr.contains(&format!(
            "test/asks@1.0.0: a connection to 192.0.2.1 port {port} was refused: the list of `--network allow:…` does \
             not have it"
        )),
        "{run:?}"
    );
    assert!(
        message.contains(&format!(
            "`bin/build` of test/asks@1.0.0 asked for 192.0.2.1:{port}, which the policy refuses"
        )),
        "{message}"
    );
    let report = report(&machine);
    assert_eq!(report["network"], policy);
    let refused = &report["refused"][0];
    assert_eq!(refused["buildpack"], "test/asks@1.0.0");
    assert_eq!(refused["host"], "192.0.2.1");
    assert_eq!(refused["port"], port);
    assert_eq!(refused["count"], 1);
    assert!(
        report["failure"]["hint"]
            .as_str()
            .unwrap()
            .contains("--network allow:")
    );
}

#[test]
fn a_port_that_nobody_listens_on_is_told_too() {
    let machine = Machine::new();
    let asks = buildpack("asks", "true", ASK);
    let app = app("192.0.2.1", 5432);
    let run = machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &asks.text(),
        "-o",
        &layout(&machine),
    ]);
    let run = run.fails(51, "buildpack_failed");
    let message = run.message();
    assert!(
        message.contains(
            "`bin/build` of test/asks@1.0.0 asked for 192.0.2.1:5432, which the policy refuses (the port is not one of \
             those that the policy allows): allow it with `--network allow:192.0.2.1:5432,…`"
        ),
        "{message}"
    );
    // The job's own servers and what asks them are its own business.
    let own = buildpack(
        "own",
        "true",
        "python3 -m http.server -b 127.0.0.1 5432 >/dev/null 2>&1 & sleep 2; echo >/dev/tcp/127.0.0.1/5432; \
         ! (echo >/dev/tcp/127.0.0.1/5433) 2>/dev/null; kill %1",
    );
    let run = machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &own.text(),
        "-o",
        &layout(&machine),
    ]);
    assert!(!run.ok().stderr.contains("was refused"));
}

#[test]
fn without_a_network_no_name_is_answered() {
    let machine = Machine::new();
    let asks = buildpack("asks", "true", ASK);
    let app = app("example.com", 443);
    let run = machine
        .packhorse(&[
            "build",
            &app.text(),
            "--buildpack",
            &asks.text(),
            "-o",
            &layout(&machine),
        ])
        .env("PACKHORSE_NETWORK", "none")
        .run();
    let run = run.fails(51, "buildpack_failed");
    assert!(
        run.stderr
            .contains("test/asks@1.0.0: the name `example.com` was refused: this step has no network"),
        "{run:?}"
    );
}

#[test]
fn with_the_machine_s_network_builds_reach_its_loopback_and_detection_does_not() {
    let port = server();
    let machine = Machine::new();
    let asks = buildpack(
        "asks",
        &format!("! (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null"),
        ASK,
    );
    let app = app("127.0.0.1", port);
    let reports = machine.folder().join("report").display().to_string();
    let run = machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &asks.text(),
        "-o",
        &layout(&machine),
        "--network",
        "host",
        "--report-output-dir",
        &reports,
    ]);
    let run = run.ok();
    assert!(run.stderr.contains("hello from outside"), "{run:?}");
    assert!(
        run.stderr.contains("have this machine's own network (`host`)"),
        "{run:?}"
    );
    assert_eq!(report(&machine)["network"], "host");
}

#[test]
fn a_policy_that_cannot_be_meant_is_a_usage_error() {
    let machine = Machine::new();
    for (policy, words) in [
        (
            "open",
            "`open` is no network policy: use none, public, host or allow:",
        ),
        ("allow:", "it lists nothing"),
        ("allow:10.0.0.0/8", "`10.0.0.0/8` is a network"),
        ("allow:a:99999", "`a:99999` has no port from 1 to 65535"),
    ] {
        for command in [["build", "."], ["run", "app"]] {
            let run = machine.run(&[&command[..], &["--network", policy]].concat());
            assert_eq!(run.code, Some(2), "{run:?}");
            assert!(run.stderr.contains(words), "{run:?}");
        }
    }
    let run = machine.run(&["build", ".", "--offline", "--network", "host"]);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("contradict each other"), "{run:?}");
}

#[test]
fn offline_a_source_that_needs_nothing_is_built_and_one_that_does_has_its_own_code() {
    let machine = Machine::new();
    let layout = layout(&machine);
    let quiet = buildpack("quiet", "true", "true");
    let app = app("example.com", 443);
    machine
        .run(&[
            "build",
            &app.text(),
            "--buildpack",
            &quiet.text(),
            "-o",
            &layout,
            "--offline",
        ])
        .ok();

    let asks = buildpack("asks", "true", ASK);
    let run = machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &asks.text(),
        "-o",
        &layout,
        "--offline",
    ]);
    let message = run.fails(51, "buildpack_offline").message();
    assert!(
        message.contains("it asked for example.com, and the build is offline"),
        "{message}"
    );

    let run = machine.run(&["build", "https://git.example/app.git", "-o", &layout, "--offline"]);
    let message = run.fails(10, "offline").message();
    assert!(
        message.contains("cannot ask https://git.example/app.git"),
        "{message}"
    );
    let run = machine.run(&["build", "git@git.example:app.git", "-o", &layout, "--offline"]);
    run.fails(10, "offline");

    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let tag = format!("{}/app:1", registry.local_addr().unwrap());
    let run = machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &quiet.text(),
        "-t",
        &tag,
        "--offline",
    ]);
    let message = run.fails(10, "offline").message();
    assert!(
        message.contains("neither a mirror nor a trusted host"),
        "{message}"
    );
}

/// A proxy that notes the first bytes of each connection and hangs up.
fn proxy() -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut bytes = [0; 1024];
            let length = stream.unwrap().read(&mut bytes).unwrap_or(0);
            kept.lock().unwrap().extend(&bytes[..length]);
        }
    });
    (port, seen)
}

#[test]
fn an_upstream_proxy_is_used_and_never_shown_to_the_job() {
    for scheme in ["http", "socks5"] {
        let (port, seen) = proxy();
        let machine = Machine::new();
        // What a job can see of its surroundings; one of `grep`'s own words would be found in its arguments.
        let looks = "env; cat /proc/self/environ /proc/1/environ /proc/*/cmdline /proc/*/environ /etc/resolv.conf \
                     /etc/hosts /etc/environment /proc/net/tcp 2>/dev/null || true; \
                     (exec 3<>/dev/tcp/secure.example/22 && printf x >&3) || true";
        let looks = buildpack("looks", "env; cat /proc/*/environ 2>/dev/null || true", looks);
        let app = app("secure.example", 443);
        let url = format!("{scheme}://ann:s3cret-word@127.0.0.1:{port}");
        let layout = layout(&machine);
        let run = machine
            .packhorse(&["build", &app.text(), "--buildpack", &looks.text(), "-o", &layout])
            .env("https_proxy", &url)
            .env("http_proxy", &url)
            .env("HTTPS_PROXY", &url)
            .env("no_proxy", "direct.example")
            .run()
            .ok();
        for secret in ["s3cret-word", &format!("127.0.0.1:{port}"), "direct.example"] {
            let told = format!("{}{}", run.stdout, run.stderr);
            let shown: Vec<&str> = told
                .lines()
                .filter(|line| line.contains(secret) && !line.contains("upstream proxy"))
                .collect();
            assert!(shown.is_empty(), "{scheme}: {secret}: {shown:?}");
        }
        assert!(!run.stderr.contains("s3cret-word"));
        let seen = seen.lock().unwrap();
        let asked: &[u8] = if scheme == "http" {
            b"CONNECT secure.example:22 HTTP/1.1\r\n"
        } else {
            &[5, 2, 0, 2]
        };
        assert!(seen.starts_with(asked), "the proxy was not asked: {seen:?}");
    }
}

#[test]
fn a_proxy_that_does_not_take_the_password_is_named_without_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _read = stream.read(&mut [0; 1024]);
            let _gone = stream.write_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    let machine = Machine::new();
    let run = machine
        .packhorse(&["build", "https://git.example/app.git", "-o", &layout(&machine)])
        .env("https_proxy", format!("http://ann:s3cret-word@127.0.0.1:{port}"))
        .env("no_proxy", "")
        .run();
    let run = run.fails(10, "proxy_unauthorized");
    let message = run.message();
    assert!(
        message.contains(&format!(
            "the proxy `http://127.0.0.1:{port}/` does not accept the user and password"
        )),
        "{message}"
    );
    assert!(!run.stderr.contains("s3cret-word"), "{run:?}");
}
