//! A real Node.js app with dependencies from npm: built, and asked over HTTP while it runs.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::support::app::Folder;
use crate::support::ask::ask;
use crate::support::ask::free_port;
use crate::support::home::Machine;
use crate::support::image::Image;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;

/// A program that is killed when the test is done with it.
struct Server(Child);

impl Server {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn is_the_app(answer: &str) {
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["app"], "node-express");
    assert!(answer["node"].as_str().unwrap().starts_with("v22."), "{answer}");
    assert_eq!(answer["environment"], "production");
    assert_eq!(answer["developmentDependencies"], false, "they were not pruned");
}

#[test]
fn an_express_app_answers_from_its_image() {
    let machine = Machine::new();
    let app = Folder::fixture("apps/node-express");
    let registry = DockerRegistry::start(Guard::Open);
    let tag = format!("{}/node-express:1", registry.host());
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let build = machine
        .run(&["build", &app.text(), "-t", &tag, "-o", "registry", "-o", &layout])
        .ok();
    assert!(build.all().contains("npm"), "{build:?}");

    let port = free_port();
    let mut running = machine
        .packhorse(&["run", "-p", &format!("{port}:8080"), &layout])
        .start();
    is_the_app(&ask(port, "/"));
    assert!(ask(port, "/page").contains("node-express"));
    running.note_processes();
    running.interrupt();
    let run = running.wait();
    assert!(run.elapsed.as_secs() < 120, "{run:?}");

    // The same image, fetched from the registry by skopeo, unpacked by umoci and run by bubblewrap.
    let unpacked = Image::read(&format!("docker://{tag}")).unpack();
    let port = free_port();
    let port_text = port.to_string();
    let _server = Server::start(&mut unpacked.command(None, &[], &[("PORT", &port_text)]));
    is_the_app(&ask(port, "/"));
    assert!(ask(port, "/page").contains("node-express"));
}

#[test]
fn one_changed_line_sends_only_the_app_layer_and_npm_is_not_asked_again() {
    let machine = Machine::new();
    let app = Folder::fixture("apps/node-express");
    let registry = DockerRegistry::start(Guard::Open);
    let tag = format!("{}/one-line:1", registry.host());
    machine.run(&["build", &app.text(), "-t", &tag]).ok();
    let before = Image::read(&format!("docker://{tag}"));
    let server = std::fs::read_to_string(app.path().join("server.js")).unwrap();
    app.write("server.js", &format!("{server}// one more line\n"));
    machine.run(&["build", &app.text(), "-t", &tag]).ok();
    let after = Image::read(&format!("docker://{tag}"));
    let changed: Vec<_> = before
        .diff_ids()
        .into_iter()
        .zip(after.diff_ids())
        .zip(after.made_by())
        .filter(|((old, new), _)| old != new)
        .collect();
    let names: Vec<_> = changed.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["Application Layer"]);
    assert_eq!(before.diff_ids().len(), after.diff_ids().len());
}

#[test]
fn an_app_without_a_lock_file_is_built_with_a_warning() {
    let machine = Machine::new();
    let app = Folder::fixture("apps/node-no-lock");
    let layout = format!("oci:{}", machine.folder().join("image").display());
    let run = machine.run(&["build", &app.text(), "-o", &layout]).ok();
    assert!(run.all().contains("package-lock.json"), "{run:?}");
}

#[test]
fn a_procfile_names_the_processes() {
    let machine = Machine::new();
    let app = Folder::fixture("apps/procfile-web");
    let layout = format!("oci:{}", machine.folder().join("image").display());
    machine.run(&["build", &app.text(), "-o", &layout]).ok();
    let image = Image::read(&layout);
    let build = image.json_label("io.buildpacks.build.metadata");
    assert_eq!(build["processes"][0]["type"], "web", "{build}");
    assert_eq!(image.config["config"]["Entrypoint"][0], "/cnb/process/web");
}
