//! The registry client against Debian's `docker-registry`, and against registries that misbehave on purpose.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use packhorse::events::Cancel;
use packhorse::http;
use packhorse::http::client::Client;
use packhorse::model::descriptor::CONFIG;
use packhorse::model::descriptor::Descriptor;
use packhorse::model::descriptor::INDEX;
use packhorse::model::descriptor::LAYER_GZIP;
use packhorse::model::descriptor::MANIFEST;
use packhorse::model::digest::Digest;
use packhorse::model::failure::Failure as _;
use packhorse::model::reference::ImageReference;
use packhorse::registry::client::Registry;
use packhorse::registry::credentials::CredentialSources;
use packhorse::registry::error::RegistryError;
use packhorse::registry::pull::Platform;
use packhorse::registry::push::Pushed;
use tempfile::TempDir;

use crate::support::app::Folder;
use crate::support::events::Recorder;
use crate::support::home::Machine;
use crate::support::image::Image;
use crate::support::proxy::Proxy;
use crate::support::registry::DockerRegistry;
use crate::support::registry::Guard;
use crate::support::registry::Request;
use crate::support::registry::Response;
use crate::support::registry::Scripted;

fn reference(host: &str, rest: &str) -> ImageReference {
    format!("{host}/{rest}").parse().unwrap()
}

fn client(ca_files: Vec<PathBuf>, account: Option<(&str, &str)>) -> Registry {
    use base64::Engine as _;
    let http = Client::new(&http::settings::Settings {
        ca_files,
        ..Default::default()
    })
    .unwrap();
    let value = |account: &str| {
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(account)
        )
    };
    let variable = account.map(|(host, account)| format!("{{\"{host}\":\"{}\"}}", value(account)));
    Registry::new(
        http,
        CredentialSources {
            cnb_registry_auth: variable,
            ..CredentialSources::default()
        },
    )
}

fn blob(folder: &TempDir, name: &str, bytes: &[u8], media_type: &str) -> (Descriptor, PathBuf) {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    let descriptor = Descriptor {
        media_type: media_type.into(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    (descriptor, path)
}

fn manifest(config: &Descriptor, layer: &Descriptor) -> Vec<u8> {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        serde_json::to_string(config).unwrap(),
        serde_json::to_string(layer).unwrap()
    );
    text.into_bytes()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Pushes an image of one layer and gives its descriptors and manifest.
async fn push_image(
    registry: &Registry,
    image: &ImageReference,
    folder: &TempDir,
) -> (Descriptor, Descriptor, Vec<u8>) {
    let (events, cancel) = (Recorder::default(), Cancel::default());
    let (config, config_path) = blob(
        folder,
        "config",
        br#"{"os":"linux","architecture":"amd64"}"#,
        CONFIG,
    );
    let (layer, layer_path) = blob(folder, "layer", &noise(3_000_000), LAYER_GZIP);
    registry.check_push(image).await.unwrap();
    for (blob, path) in [(&config, &config_path), (&layer, &layer_path)] {
        assert_eq!(
            registry
                .push_blob(image, blob, path, None, &events, &cancel)
                .await
                .unwrap(),
            Pushed::Uploaded
        );
    }
    assert_eq!(events.progress("push"), Some(layer.size));
    let bytes = manifest(&config, &layer);
    assert_eq!(
        registry.push_manifest(image, MANIFEST, &bytes).await.unwrap(),
        Digest::of(&bytes)
    );
    (config, layer, bytes)
}

#[tokio::test]
async fn an_image_goes_there_and_back() {
    let server = DockerRegistry::start(Guard::Open);
    let (registry, folder) = (client(vec![], None), tempfile::tempdir().unwrap());
    let (events, cancel) = (Recorder::default(), Cancel::default());
    let image = reference(&server.host(), "team/app:1");
    assert_eq!(registry.head(&image).await.unwrap(), None);
    let (config, layer, bytes) = push_image(&registry, &image, &folder).await;

    let head = registry.head(&image).await.unwrap().unwrap();
    assert_eq!(
        head,
        Descriptor {
            media_type: MANIFEST.into(),
            digest: Digest::of(&bytes),
            size: bytes.len() as u64
        }
    );
    let found = registry.manifest(&image.with_digest(head.digest)).await.unwrap();
    assert_eq!((found.descriptor, found.bytes), (head.clone(), bytes.clone()));
    assert_eq!(
        registry.blob_bytes(&image, &config, 1000).await.unwrap(),
        fs::read(folder.path().join("config")).unwrap()
    );
    let destination = folder.path().join("pulled");
    registry
        .blob(&image, &layer, &destination, &events, &cancel)
        .await
        .unwrap();
    assert_eq!(fs::read(&destination).unwrap(), noise(3_000_000));

    // A second client knows nothing and finds everything there.
    let second = client(vec![], None);
    let path = folder.path().join("layer");
    assert_eq!(
        second
            .push_blob(&image, &layer, &path, None, &events, &cancel)
            .await
            .unwrap(),
        Pushed::Present
    );
    let other = reference(&server.host(), "team/other:1");
    let mounted = second
        .push_blob(&other, &layer, &path, Some("team/app"), &events, &cancel)
        .await
        .unwrap();
    assert_eq!(mounted, Pushed::Mounted);
    // A repository that has it not, or is not there: the registry opens an upload instead.
    let third = reference(&server.host(), "team/third:1");
    let sent = second
        .push_blob(&third, &layer, &path, Some("no/where"), &events, &cancel)
        .await
        .unwrap();
    assert_eq!(sent, Pushed::Uploaded);
}

#[test]
fn a_second_repository_mounts_what_the_first_one_has() {
    let registry = DockerRegistry::start(Guard::Open);
    let proxy = Proxy::recording(&registry.host());
    let machine = Machine::alone();
    let (app, buildpack) = (
        Folder::new(&[("hello.txt", "mount")]),
        Folder::buildpack("two-scripts"),
    );
    let build = |repository: &str| {
        let tag = format!("{}/{repository}:1", proxy.host());
        machine
            .run(&["build", &app.text(), "--buildpack", &buildpack.text(), "-t", &tag])
            .ok()
    };
    let first = build("one");
    proxy.take();
    let second = build("two");
    let asked = proxy.take();
    assert_eq!(first.digest(), second.digest());
    let image = Image::read(&format!("docker://{}/two:1", registry.host()));
    for blob in image.blobs() {
        let mount = format!("POST /v2/two/blobs/uploads/?mount={blob}&from=one");
        assert!(asked.contains(&mount), "{mount}: {asked:?}");
    }
    let sent = asked
        .iter()
        .filter(|request| request.starts_with("PUT /v2/two/blobs/"))
        .count();
    assert_eq!(sent, 0, "{asked:?}");
}

#[test]
fn a_blob_that_is_broken_on_this_machine_is_made_again() {
    let (one, two) = (
        DockerRegistry::start(Guard::Open),
        DockerRegistry::start(Guard::Open),
    );
    let machine = Machine::alone();
    // The layer is taken from the cache as it is, without reading it.
    let writes = "test -d $1/kept || { mkdir $1/kept; echo kept > $1/kept/file; }; \
         printf '[types]\\nlaunch = true\\ncache = true\\n' > $1/kept.toml";
    let (app, buildpack) = (
        Folder::new(&[("hello.txt", "broken")]),
        Folder::scripts("keeps", "exit 0", writes),
    );
    let [first, second] = [&one, &two].map(|registry| format!("{}/broken:1", registry.host()));
    let build = |tags: &[&str]| {
        let (app, buildpack) = (app.text(), buildpack.text());
        let arguments = ["build", &app, "--buildpack", &buildpack, "--force"];
        machine.run(&[&arguments, tags].concat())
    };
    let digest = build(&["-t", &first]).ok().digest();
    let image = Image::read(&format!("docker://{first}"));
    let at = image
        .made_by()
        .iter()
        .position(|by| by.contains("'kept'"))
        .unwrap();
    let hex = image.blobs()[at].strip_prefix("sha256:").unwrap().to_owned();
    let path = machine.store().join("blobs/sha256").join(hex);
    let length = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0; usize::try_from(length).unwrap()]).unwrap();

    let run = build(&["-t", &first, "-t", &second]).fails(65, "blob_broken");
    assert!(run.all().contains(&path.display().to_string()), "{run:?}");
    assert_eq!(build(&["-t", &first, "-t", &second]).ok().digest(), digest);
    assert_eq!(Image::read(&format!("docker://{second}")).digest, digest);
}

#[tokio::test]
async fn an_index_is_followed_to_the_platform() {
    let server = DockerRegistry::start(Guard::Open);
    let (registry, folder) = (client(vec![], None), tempfile::tempdir().unwrap());
    let image = reference(&server.host(), "app:1");
    let (_, _, bytes) = push_image(&registry, &image, &folder).await;
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
        Digest::of(&bytes),
        bytes.len()
    );
    let all = reference(&server.host(), "app:all");
    registry
        .push_manifest(&all, INDEX, index.as_bytes())
        .await
        .unwrap();
    let platform = |architecture: &str| Platform {
        os: "linux".into(),
        architecture: architecture.into(),
        variant: None,
    };
    assert_eq!(
        registry.image(&all, &platform("amd64")).await.unwrap().bytes,
        bytes
    );
    assert_eq!(
        registry.image(&image, &platform("amd64")).await.unwrap().bytes,
        bytes
    );
    let error = registry.image(&all, &platform("arm64")).await.unwrap_err();
    assert_eq!(error.facts().code, "image_platform_missing");
}

#[tokio::test]
async fn a_layer_goes_from_registry_to_registry() {
    let (one, two) = (
        DockerRegistry::start(Guard::Open),
        DockerRegistry::start(Guard::Password),
    );
    let folder = tempfile::tempdir().unwrap();
    let registry = client(vec![], Some((&two.host(), "me:s3cret")));
    let from = reference(&one.host(), "base:1");
    let (_, layer, _) = push_image(&registry, &from, &folder).await;
    let to = reference(&two.host(), "app:1");
    let (events, cancel) = (Recorder::default(), Cancel::default());
    assert_eq!(
        registry
            .copy_blob(&from, &to, &layer, &events, &cancel)
            .await
            .unwrap(),
        Pushed::Uploaded
    );
    let destination = folder.path().join("copy");
    registry
        .blob(&to, &layer, &destination, &events, &cancel)
        .await
        .unwrap();
    assert_eq!(Digest::of(&fs::read(&destination).unwrap()), layer.digest);
    let beside = reference(&one.host(), "other:1");
    assert_eq!(
        registry
            .copy_blob(&from, &beside, &layer, &events, &cancel)
            .await
            .unwrap(),
        Pushed::Mounted
    );
}

#[tokio::test]
async fn a_password_is_asked_for_and_a_wrong_one_is_told_before_any_work() {
    let server = DockerRegistry::start(Guard::Password);
    let folder = tempfile::tempdir().unwrap();
    let image = reference(&server.host(), "app:1");
    for account in [None, Some("me:wrong")] {
        let registry = client(vec![], account.map(|account| (image.registry(), account)));
        let error = registry.check_push(&image).await.unwrap_err();
        assert_eq!(error.facts().code, "push_unauthorized");
        assert!(
            error.to_string().contains("UNAUTHORIZED") && !error.to_string().contains("wrong"),
            "{error}"
        );
        assert_eq!(
            registry.head(&image).await.unwrap_err().facts().code,
            "pull_unauthorized"
        );
    }
    push_image(
        &client(vec![], Some((image.registry(), "me:s3cret"))),
        &image,
        &folder,
    )
    .await;
}

#[tokio::test]
async fn tls_needs_the_ca_and_works_with_it() {
    let server = DockerRegistry::start(Guard::Tls);
    let folder = tempfile::tempdir().unwrap();
    let image = reference(&server.host(), "app:1");
    let error = client(vec![], None).check_push(&image).await.unwrap_err();
    assert_eq!(error.facts().code, "registry_certificate", "{error}");
    push_image(&client(vec![server.ca_file()], None), &image, &folder).await;
}

#[tokio::test]
async fn failures_have_their_codes() {
    let server = DockerRegistry::start(Guard::Open);
    let registry = client(vec![], None);
    let missing = reference(&server.host(), "app:missing");
    let error = registry.manifest(&missing).await.unwrap_err();
    assert_eq!(error.facts().code, "image_not_found");
    assert!(
        error.to_string().contains("app:missing: MANIFEST_UNKNOWN"),
        "{error}"
    );
    let nobody = reference("127.0.0.1:1", "app");
    let error = registry.head(&nobody).await.unwrap_err();
    assert_eq!(
        (error.facts().code, error.facts().temporary),
        ("registry_unreachable", true)
    );
}

#[tokio::test]
async fn wrong_bytes_are_never_taken() {
    let server = Scripted::start(|_| {
        Response::status(200)
            .with("Content-Type", MANIFEST)
            .body("other bytes")
    });
    let (registry, folder) = (client(vec![], None), tempfile::tempdir().unwrap());
    let pinned = reference(&server.host(), "app").with_digest(Digest::of(b"these bytes"));
    assert_eq!(
        registry.manifest(&pinned).await.unwrap_err().facts().code,
        "registry_digest_mismatch"
    );
    let (descriptor, path) = blob(&folder, "blob", b"these bytes", LAYER_GZIP);
    let destination = folder.path().join("pulled");
    let (events, cancel) = (Recorder::default(), Cancel::default());
    let error = registry
        .blob(&pinned, &descriptor, &destination, &events, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.facts().code, "registry_digest_mismatch");
    assert_eq!(
        registry
            .blob_bytes(&pinned, &descriptor, 100)
            .await
            .unwrap_err()
            .facts()
            .code,
        "registry_digest_mismatch"
    );
    let longer = Descriptor {
        size: 5,
        ..descriptor.clone()
    };
    assert!(matches!(
        registry
            .blob(&pinned, &longer, &destination, &events, &cancel)
            .await,
        Err(RegistryError::TooLarge { .. })
    ));
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["blob"]);

    // A file that changed since it was hashed is not sent to its end.
    let open = DockerRegistry::start(Guard::Open);
    fs::write(&path, b"those bytes").unwrap();
    let image = reference(&open.host(), "app");
    let error = registry
        .push_blob(&image, &descriptor, &path, None, &events, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.facts().code, "blob_broken");
    let said = format!(
        "the blob `{}` is broken: its bytes have the digest {}",
        path.display(),
        Digest::of(b"those bytes")
    );
    assert_eq!(error.to_string(), said);
}

#[tokio::test]
async fn a_manifest_without_end_is_left() {
    let server = Scripted::start(|_| {
        Response::status(200)
            .with("Content-Type", MANIFEST)
            .body(vec![b' '; (4 << 20) + 1])
    });
    let error = client(vec![], None)
        .manifest(&reference(&server.host(), "app"))
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

/// A registry with tokens: `Bearer for <scopes>`.
fn token_server(password: Option<&'static str>) -> Scripted {
    Scripted::start(move |request: &Request| {
        let target = request.target.as_str();
        if let Some(query) = target.strip_prefix("/token?") {
            let is_known = password.is_none_or(|password| request.authorization.as_deref() == Some(password));
            let token = query.replace(['&', '=', '%'], "-");
            let answer = format!("{{\"token\":\"{token}\"}}");
            return if is_known {
                Response::status(200).body(answer)
            } else {
                Response::status(401)
            };
        }
        if request.method == "POST" && target == "/token" {
            return Response::status(200).body(r#"{"access_token":"bought"}"#);
        }
        if request
            .authorization
            .as_deref()
            .is_none_or(|shown| !shown.starts_with("Bearer "))
        {
            return Response::status(401)
                .with("WWW-Authenticate", "Negotiate")
                .with("WWW-Authenticate", "Bearer realm=\"/\"");
        }
        let body = br#"{"mediaType":"x"}"#;
        Response::status(200)
            .with("Content-Type", MANIFEST)
            .with("Docker-Content-Digest", Digest::of(body).to_string())
            .body(body)
    })
}

/// The same behind a front that names the token server by its whole URL.
fn guarded(tokens: &Scripted) -> Scripted {
    let realm = format!("http://{}/token", tokens.host());
    Scripted::start(move |request: &Request| {
        if request.authorization.is_none() {
            let challenge =
                format!("Bearer realm=\"{realm}\",service=\"here\",scope=\"repository:a/app:pull\"");
            return Response::status(401)
                .with("WWW-Authenticate", "Basic realm=\"x\"")
                .with("WWW-Authenticate", challenge);
        }
        let body = br#"{"mediaType":"x"}"#;
        Response::status(200)
            .with("Content-Type", MANIFEST)
            .with("Docker-Content-Digest", Digest::of(body).to_string())
            .body(body)
    })
}

#[tokio::test]
async fn a_token_is_obtained_once_for_many_requests() {
    let tokens = token_server(None);
    let server = guarded(&tokens);
    let registry = client(vec![], None);
    let image = reference(&server.host(), "a/app:1");
    registry.head(&image).await.unwrap().unwrap();
    assert_eq!(
        server.lines(),
        ["HEAD /v2/a/app/manifests/1", "HEAD /v2/a/app/manifests/1"]
    );
    assert_eq!(
        tokens.lines(),
        ["GET /token?service=here&scope=repository%3Aa%2Fapp%3Apull"]
    );
    futures::future::try_join_all((0..8).map(|_| registry.head(&image)))
        .await
        .unwrap();
    assert_eq!((server.lines().len(), tokens.lines().len()), (10, 1));
    // Another repository: the challenge is known, so nothing is refused first.
    registry
        .head(&reference(&server.host(), "a/other:1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((server.lines().len(), tokens.lines().len()), (11, 2));
    let fresh = client(vec![], None);
    let before = tokens.lines().len();
    futures::future::try_join_all((0..8).map(|_| fresh.head(&image)))
        .await
        .unwrap();
    assert_eq!(tokens.lines().len(), before + 1);
}

#[tokio::test]
async fn passwords_and_identity_tokens_buy_tokens() {
    let tokens = token_server(Some("Basic bWU6czNjcmV0"));
    let server = guarded(&tokens);
    let image = reference(&server.host(), "a/app:1");
    client(vec![], Some((&server.host(), "me:s3cret")))
        .head(&image)
        .await
        .unwrap()
        .unwrap();
    assert!(tokens.lines()[0].ends_with("&account=me"), "{:?}", tokens.lines());
    assert_eq!(
        client(vec![], None).head(&image).await.unwrap_err().facts().code,
        "pull_unauthorized"
    );

    let http = Client::new(&http::settings::Settings::default()).unwrap();
    let variable = format!("{{\"{}\":\"X-Identity refresh\"}}", server.host());
    let sources = CredentialSources {
        cnb_registry_auth: Some(variable),
        ..CredentialSources::default()
    };
    Registry::new(http, sources).head(&image).await.unwrap().unwrap();
    let requests = tokens.requests();
    let exchange = requests.last().unwrap();
    assert_eq!(exchange.line(), "POST /token");
    let body = String::from_utf8(exchange.body.clone()).unwrap();
    assert!(
        body.contains("grant_type=refresh_token") && body.contains("refresh_token=refresh"),
        "{body}"
    );
    assert_eq!(
        server.requests().last().unwrap().authorization.as_deref(),
        Some("Bearer bought")
    );
}

#[tokio::test]
async fn no_change_costs_one_head() {
    let server = Scripted::start(|_| {
        Response::status(200)
            .with("Content-Type", MANIFEST)
            .with("Content-Length", "7")
            .with("Docker-Content-Digest", Digest::of(b"x").to_string())
    });
    let head = client(vec![], None)
        .head(&reference(&server.host(), "app:1"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((head.size, head.digest), (7, Digest::of(b"x")));
    assert_eq!(server.lines(), ["HEAD /v2/app/manifests/1"]);
}

#[tokio::test]
async fn an_upload_elsewhere_carries_no_credentials() {
    let elsewhere = Scripted::start(|_| Response::status(201));
    let location = format!("http://{}/upload?session=1", elsewhere.host());
    let server = Scripted::start(move |request: &Request| match request.method.as_str() {
        _ if request.authorization.is_none() => {
            Response::status(401).with("WWW-Authenticate", "Basic realm=x")
        }
        "POST" => Response::status(202).with("Location", location.clone()),
        _ => Response::status(404),
    });
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, path) = blob(&folder, "blob", b"bytes", LAYER_GZIP);
    let registry = client(vec![], Some((&server.host(), "me:s3cret")));
    let image = reference(&server.host(), "app");
    let pushed = registry
        .push_blob(
            &image,
            &descriptor,
            &path,
            None,
            &Recorder::default(),
            &Cancel::default(),
        )
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    let requests = elsewhere.requests();
    assert_eq!(
        (
            requests.len(),
            requests[0].authorization.as_deref(),
            requests[0].body.as_slice()
        ),
        (1, None, &b"bytes"[..])
    );
    assert!(
        requests[0]
            .target
            .starts_with("/upload?session=1&digest=sha256%3A"),
        "{}",
        requests[0].target
    );
}

#[tokio::test]
async fn a_mount_that_is_not_made_goes_on_as_an_upload_and_a_failed_put_is_repeated() {
    let puts = AtomicU32::new(0);
    let server = Scripted::start(move |request: &Request| match request.method.as_str() {
        "POST" => Response::status(202).with("Location", "/v2/app/blobs/uploads/1"),
        "PUT" if puts.fetch_add(1, Ordering::SeqCst) == 0 => {
            Response::status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"gone"}]}"#)
        }
        "PUT" => Response::status(201),
        _ => Response::status(404),
    });
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, path) = blob(&folder, "blob", b"bytes", LAYER_GZIP);
    let image = reference(&server.host(), "app");
    let (events, cancel) = (Recorder::default(), Cancel::default());
    let pushed = client(vec![], None)
        .push_blob(&image, &descriptor, &path, Some("base"), &events, &cancel)
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    let methods: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(methods, ["HEAD", "POST", "PUT", "HEAD", "POST", "PUT"]);
    let targets = server.lines();
    assert!(
        targets[1].contains(&format!("?mount={}&from=base", descriptor.digest)),
        "{targets:?}"
    );
    assert!(!targets[4].contains("mount"), "{targets:?}");
}

#[tokio::test]
async fn a_mount_from_a_repository_that_is_gone_goes_on_as_an_upload() {
    for status in [401, 403, 404] {
        let server = Scripted::start(move |request: &Request| match request.method.as_str() {
            "POST" if request.target.contains("mount=") => Response::status(status),
            "POST" => Response::status(202).with("Location", "/v2/app/blobs/uploads/1"),
            "PUT" => Response::status(201),
            _ => Response::status(404),
        });
        let folder = tempfile::tempdir().unwrap();
        let (descriptor, path) = blob(&folder, "blob", b"bytes", LAYER_GZIP);
        let image = reference(&server.host(), "app");
        let (events, cancel) = (Recorder::default(), Cancel::default());
        let pushed = client(vec![], None)
            .push_blob(&image, &descriptor, &path, Some("gone"), &events, &cancel)
            .await;
        assert_eq!(pushed.unwrap(), Pushed::Uploaded);
        let posts = server.lines();
        let posts = posts.iter().filter(|line| line.starts_with("POST")).count();
        assert_eq!(posts, 2, "{status}");
    }
}

#[tokio::test]
async fn refusals_carry_the_registrys_words() {
    for (status, code) in [
        (401, "push_unauthorized"),
        (403, "push_denied"),
        (429, "registry_rate_limited"),
        (418, "registry_error"),
    ] {
        let server = Scripted::start(move |_| {
            let body = r#"{"errors":[{"code":"NOPE","message":"ask \u001b[31mBob"}]}"#;
            Response::status(status).with("Retry-After", "0").body(body)
        });
        let error = client(vec![], None)
            .check_push(&reference(&server.host(), "app"))
            .await
            .unwrap_err();
        assert_eq!(error.facts().code, code, "{error}");
        assert!(error.to_string().contains(r"NOPE: ask \u{1b}[31mBob"), "{error}");
    }
}

#[tokio::test]
async fn a_cancelled_push_ends_at_once() {
    let server = Scripted::start(|request: &Request| match request.method.as_str() {
        "HEAD" => {
            std::thread::sleep(Duration::from_secs(20));
            Response::status(404)
        }
        _ => Response::status(500),
    });
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, path) = blob(&folder, "blob", b"bytes", LAYER_GZIP);
    let (registry, cancel, events) = (client(vec![], None), Cancel::default(), Recorder::default());
    let image = reference(&server.host(), "app");
    let start = Instant::now();
    let push = registry.push_blob(&image, &descriptor, &path, None, &events, &cancel);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    };
    let (outcome, ()) = futures::future::join(push, stop).await;
    assert_eq!(outcome.unwrap_err().facts().code, "interrupted");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_blob_from_elsewhere_is_fetched_without_credentials() {
    let storage = Scripted::start(|_| Response::status(200).body("bytes"));
    let place = format!(
        "http://localhost:{}/storage?signature=1",
        storage.host().rsplit(':').next().unwrap()
    );
    let server = Scripted::start(move |request: &Request| match request.authorization {
        None => Response::status(401).with("WWW-Authenticate", "Basic realm=x"),
        Some(_) => Response::status(307).with("Location", place.clone()),
    });
    let folder = tempfile::tempdir().unwrap();
    let (descriptor, _) = blob(&folder, "blob", b"bytes", LAYER_GZIP);
    let registry = client(vec![], Some((&server.host(), "me:s3cret")));
    let image = reference(&server.host(), "app");
    assert_eq!(
        registry.blob_bytes(&image, &descriptor, 100).await.unwrap(),
        b"bytes"
    );
    assert_eq!(storage.requests()[0].authorization, None);
}

#[tokio::test]
async fn a_password_is_not_sent_to_a_token_server_without_tls() {
    let server = Scripted::start(|_| {
        Response::status(401).with("WWW-Authenticate", "Bearer realm=\"http://auth.example/token\"")
    });
    let registry = client(vec![], Some((&server.host(), "me:s3cret")));
    let error = registry
        .head(&reference(&server.host(), "app"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not spoken to by TLS"), "{error}");
}
