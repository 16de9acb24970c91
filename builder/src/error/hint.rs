//! What to do about each failure, by its code. `docs/errors.md` has the same codes.

/// What to do, in one sentence; none where the message says it all.
pub fn hint(code: &str) -> Option<&'static str> {
    let found = HINTS.iter().find(|(known, _)| *known == code);
    found.map(|(_, hint)| *hint).filter(|hint| !hint.is_empty())
}

/// Every code with its cure; an empty one where the message itself has it.
pub const HINTS: &[(&str, &str)] = &[
    ("usage", "see `packhorse COMMAND --help`"),
    (
        "interrupted",
        "run the same command again; what was fetched until now is kept",
    ),
    (
        "cancelled",
        "run the same command again; what was fetched until now is kept",
    ),
    (
        "disk_full",
        "make room, for example by `packhorse cache prune --older-than 1d`, or set `PACKHORSE_HOME` to a larger disk",
    ),
    (
        "file_failed",
        "look at the path's owner, permissions and disk, and build again",
    ),
    (
        "source_not_found",
        "check the spelling; a private repository looks like a missing one without credentials",
    ),
    (
        "source_url_invalid",
        "write `https://HOST/PATH.git`, `ssh://`, `file:///PATH` or `user@host:path`, with `#REVISION:SUBDIRECTORY` at its end if need be",
    ),
    (
        "revision_invalid",
        "name a branch, a tag or a commit of at least 7 digits after the `#`",
    ),
    (
        "subdirectory_invalid",
        "give it relative to the top of the source and without `..`: `URL#main:web`",
    ),
    (
        "revision_not_found",
        "check the name with `git ls-remote URL`; a commit must have been pushed",
    ),
    (
        "subdirectory_not_found",
        "check that the folder is committed at this revision, and its upper and lower case",
    ),
    (
        "source_credentials_needed",
        "make `git ls-remote URL` work first: packhorse uses the same credential helpers, ssh agent and ssh configuration",
    ),
    ("source_plain_http", "use the `https://` URL"),
    (
        "source_certificate",
        "put the authority's certificate into the file that `network.ca-file` in packhorse.toml names",
    ),
    (
        "source_unreachable",
        "check the host's name, the network and the proxy variables, and try again",
    ),
    (
        "source_too_large",
        "take what is not source out of it, or build the part that is the app: `SOURCE#:SUBDIRECTORY`",
    ),
    (
        "source_entry_invalid",
        "rename the file in the repository and commit it",
    ),
    (
        "source_unreadable",
        "make it readable for you, or move it out of the source",
    ),
    (
        "source_program_failed",
        "install the program, or correct `GIT_SSH_COMMAND` or git's `credential.helper`",
    ),
    (
        "source_git_failed",
        "look at the repository with `git fsck`; if it is whole, remove its mirror below `git/` in the data directory and try again",
    ),
    (
        "submodule_refused",
        "build without `--submodules`, or give the submodule a URL of a public server",
    ),
    (
        "output_invalid",
        "write `--tag REGISTRY/APP:TAG`, `--output registry` or `--output oci:DIRECTORY`",
    ),
    ("output_unwritable", "name a folder that you may write to"),
    (
        "reference_invalid",
        "write it as `registry.example/app:tag`, in lower case",
    ),
    ("digest_invalid", "write `sha256:` and 64 lower-case hex digits"),
    (
        "push_unauthorized",
        "log in first, for example with `docker login REGISTRY`; packhorse reads the same file and credential helpers",
    ),
    (
        "push_denied",
        "ask for the right to push there, or choose another repository with `--tag`",
    ),
    (
        "pull_unauthorized",
        "log in first, for example with `docker login REGISTRY`; packhorse reads the same file and credential helpers",
    ),
    (
        "pull_denied",
        "ask for the right to read it, and check the name: registries hide what one may not see",
    ),
    (
        "image_not_found",
        "check name and tag; `packhorse cache list` shows the images of the local store",
    ),
    ("image_platform_missing", "name an image for linux/amd64"),
    (
        "registry_credentials_invalid",
        "correct `~/.docker/config.json`, or log in again",
    ),
    (
        "registry_certificate",
        "put the authority's certificate into the file that `network.ca-file` in packhorse.toml names",
    ),
    (
        "registry_unreachable",
        "check the registry's name and port, the network and the proxy variables; for plain http add `--insecure-registry HOST:PORT`",
    ),
    (
        "registry_rate_limited",
        "wait a few minutes, or log in: registries allow more to those they know",
    ),
    (
        "registry_error",
        "try again; if it stays so, look into the registry's own log",
    ),
    (
        "registry_digest_mismatch",
        "look for a proxy or mirror between that changes or cuts answers",
    ),
    ("http_url_invalid", "correct the URL"),
    (
        "http_settings_invalid",
        "correct `[network]` and `[[mirrors]]` in packhorse.toml, or the proxy variables",
    ),
    (
        "http_certificate",
        "put the authority's certificate, in PEM, into the file that `network.ca-file` in packhorse.toml names",
    ),
    (
        "http_unreachable",
        "check the network and the proxy variables, and try again",
    ),
    ("http_timeout", "try again; behind a proxy check its variables"),
    (
        "http_redirect",
        "name the final URL, or a mirror in packhorse.toml",
    ),
    (
        "http_status",
        "check the URL, or the mirror that stands for it in packhorse.toml",
    ),
    (
        "http_too_large",
        "check the URL, or the mirror that stands for it in packhorse.toml",
    ),
    (
        "http_digest_mismatch",
        "look for a proxy or mirror between that changes or cuts answers",
    ),
    ("name_not_found", "check the spelling of the host's name"),
    (
        "name_not_resolved",
        "check this machine's name server, and try again",
    ),
    (
        "connect_failed",
        "check that the server runs and that a firewall lets this machine through",
    ),
    (
        "own_addresses_unknown",
        "allow netlink sockets to packhorse: a security profile seems to forbid them",
    ),
    ("proxy_unusable", "set it to `http://HOST:PORT`"),
    (
        "proxy_unreachable",
        "check `https_proxy` and `http_proxy`, and that the proxy runs",
    ),
    (
        "proxy_refused",
        "ask for the host to be allowed at the proxy, or name it in `no_proxy`",
    ),
    (
        "network_refused",
        "jobs reach public hosts only; a host of your network goes into `[[mirrors]]` of packhorse.toml",
    ),
    (
        "network_socket",
        "try again; if it stays so, raise the limit of open files (`ulimit -n`)",
    ),
    (
        "base_mirror_unreachable",
        "check the network and the proxy variables, or name a nearer mirror in `PACKHORSE_DEBIAN_MIRROR`",
    ),
    (
        "base_signature_invalid",
        "use another mirror (`PACKHORSE_DEBIAN_MIRROR`): this one, or something on the way, serves what Debian did not sign",
    ),
    (
        "base_archive_invalid",
        "use another mirror (`PACKHORSE_DEBIAN_MIRROR`)",
    ),
    (
        "base_release_expired",
        "check this machine's clock; if it is right, the mirror is stale: use another (`PACKHORSE_DEBIAN_MIRROR`)",
    ),
    (
        "base_hash_mismatch",
        "try again in a few minutes, as the mirror may be in the middle of an update, or use another (`PACKHORSE_DEBIAN_MIRROR`)",
    ),
    (
        "base_package_superseded",
        "make a new base with `packhorse base create`, or use a mirror that keeps old versions",
    ),
    (
        "base_package_missing",
        "use a complete mirror (`PACKHORSE_DEBIAN_MIRROR`)",
    ),
    (
        "base_dependencies_unmet",
        "use a complete mirror (`PACKHORSE_DEBIAN_MIRROR`), and try again later: a release may be on its way",
    ),
    (
        "base_package_invalid",
        "make the base of other versions, with `packhorse base create --lock FILE`, and report it",
    ),
    (
        "base_lock_invalid",
        "take a file that `packhorse base inspect --lock` has printed",
    ),
    (
        "base_layer_missing",
        "report it; until then `packhorse base create` makes the base again",
    ),
    (
        "base_not_made",
        "run `packhorse base create`; the first build makes it too",
    ),
    ("base_broke_off", "report it with the message above"),
    (
        "no_buildpack_detected",
        "if the app is in a subfolder, name it: `.#:web` or `URL#main:web`; if a file is missing, check that it is committed",
    ),
    (
        "detect_errored",
        "read the output of the buildpack that could not tell, above; `packhorse plan` asks again without building",
    ),
    (
        "detect_other",
        "correct the order of the composite buildpack that is named",
    ),
    (
        "extensions_unsupported",
        "use a builder or a composite buildpack without extensions",
    ),
    (
        "buildpack_missing",
        "name the folder that has the `buildpack.toml`, and every buildpack that a composite one needs",
    ),
    (
        "buildpack_toml_invalid",
        "correct the file at the place that is named",
    ),
    (
        "buildpack_api_unsupported",
        "use a version of the buildpack for one of the APIs that are named",
    ),
    (
        "buildpack_failed",
        "read the last lines of its output, above: what it says must be mended in the source, and often fails in a clean checkout too",
    ),
    (
        "buildpack_timed_out",
        "see in its output what it waits for; if it only needs longer, raise `--timeout`",
    ),
    (
        "buildpack_out_of_memory",
        "raise `--memory`, or let the build do less at once",
    ),
    (
        "build_output_invalid",
        "correct the buildpack: the file and what is wrong with it are named above",
    ),
    (
        "layer_not_reusable",
        "build again with `--force`; if it stays so, correct the buildpack: it must make the layer when it is not restored",
    ),
    (
        "layer_without_contents",
        "correct the buildpack: a layer with `cache = true` needs its folder",
    ),
    ("layer_not_exported", "report it with the message above"),
    ("layer_name_invalid", "rename the file that is named"),
    (
        "layer_too_big",
        "leave out of the app what it does not need to run",
    ),
    (
        "layer_changed_while_read",
        "make sure that nothing of the build still runs in the background when it ends",
    ),
    (
        "layer_read_failed",
        "look at the machine's log for faults of the disk, and build again",
    ),
    (
        "layer_write_failed",
        "look at the disk of the data directory, and build again",
    ),
    ("layer_broken", "make or fetch the image again"),
    ("layer_refused", "do not use this image: it is damaged or hostile"),
    (
        "layer_unpack_failed",
        "look at the disk of the data directory; without root the image may have owners beyond the subordinate ids",
    ),
    (
        "slice_pattern_malformed",
        "correct the pattern in the buildpack's launch.toml",
    ),
    (
        "process_type_invalid",
        "rename the process type in the Procfile or the buildpack",
    ),
    ("label_unwritable", "report it with the message above"),
    (
        "compression_invalid",
        "write `gzip`, `gzip-single`, `zstd` or `none`, with `:LEVEL` if need be",
    ),
    (
        "blob_broken",
        "make or fetch the image again; `packhorse cache prune --older-than 0s` clears what is kept",
    ),
    (
        "blob_read_failed",
        "look at the machine's log for faults of the disk",
    ),
    ("image_config_malformed", "make or fetch the image again"),
    ("image_inconsistent", "make or fetch the image again"),
    ("manifest_malformed", "make or fetch the image again"),
    (
        "manifest_unsupported",
        "convert the image to the OCI format, for example with `skopeo copy --format oci`",
    ),
    (
        "layout_invalid",
        "name a folder that has `oci-layout` and `index.json`, or one that is empty or missing",
    ),
    (
        "layout_file_failed",
        "look at the folder's owner, permissions and disk",
    ),
    (
        "process_type_unknown",
        "choose one of its types; `packhorse inspect IMAGE` shows them",
    ),
    ("process_missing", "name a program after `--`"),
    (
        "process_not_started",
        "check with `packhorse inspect IMAGE` what the image starts; a program needs its interpreter in the image too",
    ),
    (
        "process_timed_out",
        "start it again: `run` is for trying an image, not for serving",
    ),
    (
        "image_user_unknown",
        "make the image with a numeric user, or with the user in its /etc/passwd",
    ),
    ("publish_listen", "choose another: `-p LOCAL:PORT`"),
    (
        "publish_not_loopback",
        "publish on the loopback; use a container runtime to serve others",
    ),
    (
        "report_unwritable",
        "name a folder that you may write to with `--report-output-dir`",
    ),
    ("sandbox_forbidden", ""),
    (
        "sandbox_start",
        "try again; if it stays so, run as root once to see whether a limit of the plain user is the cause",
    ),
    (
        "sandbox_directory",
        "look at owner and disk of `jobs/` in the data directory",
    ),
    (
        "sandbox_preparation",
        "look at owner and disk of the data directory",
    ),
    (
        "sandbox_ended",
        "look at the machine's log: the kernel may have ended it for memory; try `--memory` with a limit below what is free",
    ),
    (
        "sandbox_file",
        "see which step of which buildpack made it; files of a buildpack must be regular and of sensible size",
    ),
    ("sandbox_spec", "report it with the message above"),
    (
        "store_open_to_others",
        "close it with `chmod 700`, or name another with `PACKHORSE_HOME`",
    ),
    (
        "store_record_malformed",
        "remove the file that is named: it is made again",
    ),
    (
        "store_unusable",
        "look at owner, permissions and disk of the data directory",
    ),
];
