//! What a build step can do and what it cannot: the network, localhost, the authorities that it trusts.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use crate::support::app::Folder;
use crate::support::home::Machine;
use crate::support::image::Image;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;
use crate::support::run::Run;

/// A Node.js app without dependencies whose build script is `script`.
fn node_app(script: &str) -> Folder {
    Folder::new(&[
        (
            "package.json",
            "{\"name\":\"steps\",\"version\":\"1.0.0\",\"engines\":{\"node\":\"22.x\"},\"scripts\":{\"build\":\"node build.js\",\"start\":\"node build.js\"}}",
        ),
        (
            "package-lock.json",
            "{\"name\":\"steps\",\"version\":\"1.0.0\",\"lockfileVersion\":3,\"requires\":true,\"packages\":{\"\":{\"name\":\"steps\",\"version\":\"1.0.0\"}}}",
        ),
        ("build.js", script),
    ])
}

fn build_node(script: &str) -> Run {
    let machine = Machine::new();
    let layout = format!("oci:{}", machine.folder().join("image").display());
    machine.run(&["build", &node_app(script).text(), "-o", &layout])
}

fn build(buildpack: &Folder) -> Run {
    let machine = Machine::new();
    let app = Folder::new(&[("file", "1")]);
    let layout = format!("oci:{}", machine.folder().join("image").display());
    machine.run(&[
        "build",
        &app.text(),
        "--buildpack",
        &buildpack.text(),
        "-o",
        &layout,
    ])
}

#[test]
fn nodes_fetch_reaches_the_internet() {
    let script = "fetch('https://registry.npmjs.org/is-odd').then((answer) => answer.json()).then((body) => console.log('fetched ' + body.name))
        .catch((error) => { console.error(error); process.exit(1); });";
    let run = build_node(script).ok();
    assert!(run.all().contains("fetched is-odd"), "{run:?}");
}

#[test]
fn npm_reaches_the_registry() {
    let script = "const { execSync } = require('child_process'); console.log('npm says ' + execSync('npm view is-odd@3.0.1 version').toString());";
    let run = build_node(script).ok();
    assert!(run.all().contains("npm says 3.0.1"), "{run:?}");
}

#[test]
fn curl_and_git_trust_the_same_authorities() {
    let script = "curl -fsS --max-time 60 https://registry.npmjs.org/is-odd/3.0.1 | head -c 20
        test -n \"$SSL_CERT_FILE\" && test -s \"$SSL_CERT_FILE\"";
    build(&Folder::scripts("curls", "exit 0", script)).ok();
}

#[test]
fn a_server_on_localhost_is_started_and_talked_to() {
    let run = build(&Folder::buildpack("starts-server")).ok();
    assert!(run.all().contains("hello from the build"), "{run:?}");
    let script = "const server = require('http').createServer((request, response) => response.end('from localhost'));
        server.listen(0, 'localhost', () => fetch('http://localhost:' + server.address().port).then((answer) => answer.text())
            .then((text) => { console.log('said ' + text); server.close(); }));";
    let run = build_node(script).ok();
    assert!(run.all().contains("said from localhost"), "{run:?}");
}

#[test]
fn detect_has_no_network() {
    let detect = "if curl -fsS --max-time 20 https://registry.npmjs.org/is-odd >/dev/null 2>&1; then echo reached; else echo alone; fi
        if curl -sS --max-time 20 http://1.1.1.1/ >/dev/null 2>&1; then echo reached; fi";
    let build_script =
        "curl -fsS --max-time 60 https://registry.npmjs.org/is-odd >/dev/null && echo building-reaches-it";
    let detect = format!("({detect}) > /workspace/detected");
    let run = build(&Folder::scripts(
        "network",
        &detect,
        &format!("cat /workspace/detected; {build_script}"),
    ))
    .ok();
    assert!(
        run.all().contains("alone") && !run.all().contains("    reached"),
        "{run:?}"
    );
    assert!(run.all().contains("building-reaches-it"), "{run:?}");
}

#[test]
fn the_workers_own_servers_and_private_addresses_are_out_of_reach() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    // Ends with the process.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let _request = stream.read(&mut [0; 100]);
        }
    });
    let own = own_addresses();
    let mut places: Vec<String> = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.1.2.3",
    ]
    .map(|host| format!("http://{host}:{port}/"))
    .to_vec();
    places.extend(own.iter().map(|address| format!("http://{address}:{port}/")));
    places.extend(
        [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "[fd00::1]",
            "metadata.google.internal",
        ]
        .map(|host| format!("http://{host}/")),
    );
    let script = places
        .iter()
        .map(|place| format!("curl -sS --max-time 15 -o /dev/null '{place}' && echo 'reached {place}'; "))
        .collect::<Vec<_>>()
        .concat();
    let run = build(&Folder::scripts(
        "reaches",
        "exit 0",
        &format!("set +e; {script} echo tried-all"),
    ))
    .ok();
    assert!(
        run.all().contains("tried-all") && !run.all().contains("    reached"),
        "{run:?}"
    );
    assert_eq!(reached.load(Ordering::SeqCst), 0, "{run:?}");
}

#[test]
fn a_refusal_is_told_once() {
    let asks = "for _ in 1 2; do curl -sS --max-time 15 http://10.0.0.1/ || echo not-reached; done";
    let run = build(&Folder::scripts("asks", "exit 0", asks)).ok();
    assert_eq!(run.all().matches("not-reached").count(), 2, "{run:?}");
    let all = run.all();
    let told: Vec<&str> = all
        .lines()
        .filter(|line| line.contains("refused") && line.contains("private"))
        .collect();
    assert_eq!(told.len(), 1, "{run:?}");
}

#[test]
fn the_users_authorities_reach_the_build_and_never_the_image() {
    let registry = DockerRegistry::start(Guard::Tls);
    let own = fs::read_to_string(registry.ca_file()).unwrap();
    let body: String = own.lines().nth(1).unwrap().to_owned();
    let machine = Machine::new();
    let both = machine.folder().join("both.pem");
    let system = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap();
    fs::write(&both, format!("{system}\n{own}")).unwrap();
    let script = format!(
        "for file in /etc/ssl/certs/ca-certificates.crt \"$SSL_CERT_FILE\" \"$NODE_EXTRA_CA_CERTS\"; do grep -qF '{body}' \"$file\" && echo trusted; done"
    );
    let (app, buildpack) = (
        Folder::new(&[("file", "1")]),
        Folder::scripts("trusts", "exit 0", &script),
    );
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let build = machine.packhorse(&[
        "build",
        &app.text(),
        "--buildpack",
        &buildpack.text(),
        "-o",
        &layout,
    ]);
    let run = build.env("SSL_CERT_FILE", &both).run().ok();
    assert_eq!(run.all().matches("    trusted").count(), 3, "{run:?}");
    let unpacked = Image::read(&layout).unpack();
    for file in ["etc/ssl/certs/ca-certificates.crt", "workspace"] {
        assert_eq!(
            crate::support::image::holds_text(&unpacked.path().join(file), &body),
            [] as [&std::path::Path; 0]
        );
    }
}

#[test]
fn what_a_step_leaves_running_is_ended_and_the_next_does_not_see_it() {
    let machine = Machine::new();
    let app = Folder::new(&[("file", "1")]);
    let leaves = Folder::scripts(
        "leaves",
        "exit 0",
        "(trap '' TERM HUP INT; exec sleep 3599) >/dev/null 2>&1 & echo left one",
    );
    let looks = Folder::scripts(
        "looks",
        "exit 0",
        "for each in /proc/[0-9]*; do tr '\\0' ' ' < $each/cmdline 2>/dev/null; echo; done | grep 'sleep 359[9]' && echo seen; echo looked",
    );
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let run = machine
        .run(&[
            "build",
            &app.text(),
            "--buildpack",
            &leaves.text(),
            "--buildpack",
            &looks.text(),
            "-o",
            &layout,
        ])
        .ok();
    assert!(
        run.all().contains("looked") && !run.all().contains("    seen"),
        "{run:?}"
    );
}

/// The addresses by which the machine is reached from outside.
fn own_addresses() -> Vec<String> {
    let text = crate::support::home::succeed(std::process::Command::new("hostname").arg("-I"));
    let addresses = text.split_whitespace().map(|address| {
        if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        }
    });
    addresses.collect()
}
