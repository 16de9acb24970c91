//! The exact commands and files that give what a machine lacks. Pure; never `--privileged`.

use std::path::Path;

use crate::cli::doctor::row::Cure;
use crate::sandbox::id_helper::IdHelper;
use crate::sandbox::id_helper::Right;
use crate::sandbox::kernel_settings::Container;

/// Ids of a range.
const IDS: u32 = 65_536;

/// A range of subordinate ids for `user`, from `first` on.
pub(super) fn subordinate_ids(user: &str, first: Option<u32>) -> Cure {
    let gives = format!("ids for {user}'s jobs (as root)");
    let lines = match first {
        Some(first) => {
            let last = first + (IDS - 1);
            format!(
                "usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}\n\
                 # or, where there is no usermod, one line in each of both files:\n\
                 echo '{user}:{first}:{IDS}' >> /etc/subuid\n\
                 echo '{user}:{first}:{IDS}' >> /etc/subgid"
            )
        }
        None => {
            "# no 65536 ids are free here: start the container with a user namespace that has more".to_owned()
        }
    };
    Cure { gives, lines }
}

/// The programs that map ids.
pub(super) fn id_helper_package() -> Cure {
    Cure {
        gives: "the programs that map ids (as root)".to_owned(),
        lines: "apt install uidmap          # Debian, Ubuntu\n\
                dnf install shadow-utils    # Fedora, RHEL\n\
                apk add shadow-uidmap       # Alpine"
            .to_owned(),
    }
}

/// The rights of the programs that map ids. File capabilities hold where the set-user-id bit does not: in a container
/// whose bounding set lacks `SYS_ADMIN`.
pub(super) fn id_helper_rights(helpers: &[Option<IdHelper>; 2]) -> Cure {
    let path = |helper: &Option<IdHelper>, otherwise: &str| {
        helper.as_ref().map_or_else(
            || otherwise.to_owned(),
            |helper| helper.path.display().to_string(),
        )
    };
    Cure {
        gives: "the right to map ids (as root, in a container when its image is made)".to_owned(),
        lines: format!(
            "setcap cap_setuid+ep {}\nsetcap cap_setgid+ep {}",
            path(&helpers[0], "/usr/bin/newuidmap"),
            path(&helpers[1], "/usr/bin/newgidmap"),
        ),
    }
}

/// Whether a helper has what it needs.
pub(super) fn has_right(helper: Option<&IdHelper>) -> bool {
    helper.is_some_and(|helper| helper.right != Right::None)
}

/// A profile that lets this program have user namespaces, whole.
pub(super) fn apparmor_profile(program: &Path) -> Cure {
    Cure {
        gives: "user namespaces for this program alone (as root)".to_owned(),
        lines: format!(
            "cat > /etc/apparmor.d/packhorse <<'END'\n{}END\n\
             apparmor_parser --replace /etc/apparmor.d/packhorse",
            apparmor_profile_text(program)
        ),
    }
}

/// The profile itself.
pub(super) fn apparmor_profile_text(program: &Path) -> String {
    format!(
        "abi <abi/4.0>,\n\
         include <tunables/global>\n\
         \n\
         profile packhorse \"{}\" flags=(unconfined) {{\n  \
           userns,\n\
         \n  \
           include if exists <local/packhorse>\n\
         }}\n",
        program.display()
    )
}

/// A setting of the kernel, until the next start and for ever.
pub(super) fn sysctl(gives: &str, setting: &str) -> Cure {
    Cure {
        gives: format!("{gives} (as root)"),
        lines: format!(
            "sysctl -w {setting}\necho '{setting}' >> /etc/sysctl.d/90-packhorse.conf    # for every start from now on"
        ),
    }
}

/// How the container around is to be started.
pub(super) fn container(container: Container) -> Vec<Cure> {
    let docker = Cure {
        gives: "namespaces and an own /proc in a container of Docker".to_owned(),
        lines: "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined \\\n    \
                --security-opt apparmor=unconfined IMAGE"
            .to_owned(),
    };
    let podman = Cure {
        gives: "namespaces and an own /proc in a container of podman".to_owned(),
        lines: "podman run --security-opt seccomp=unconfined --security-opt unmask=ALL \\\n    \
                --security-opt label=disable IMAGE"
            .to_owned(),
    };
    let kubernetes = Cure {
        gives: "namespaces and an own /proc in a pod".to_owned(),
        lines: "spec:\n  \
                  hostUsers: false\n  \
                  containers:\n    \
                    - name: packhorse\n      \
                      securityContext:\n        \
                        procMount: Unmasked\n        \
                        seccompProfile:\n          \
                          type: Unconfined\n        \
                        appArmorProfile:\n          \
                          type: Unconfined"
            .to_owned(),
    };
    match container {
        Container::Docker => vec![docker],
        Container::Podman => vec![podman],
        Container::Kubernetes => vec![kubernetes],
        // Containers that leave no mark are common: containerd's, and those of CI services.
        Container::NotSeen => vec![docker, kubernetes],
    }
}

/// A cgroup with controllers of one's own.
pub(super) fn delegation(is_root: bool) -> Cure {
    let (gives, lines) = if is_root {
        (
            "limits by cgroup for a service",
            "# /etc/systemd/system/packhorse.service.d/delegate.conf\n[Service]\nDelegate=yes",
        )
    } else {
        (
            "limits by cgroup for one command",
            "systemd-run --user --scope --property=Delegate=yes packhorse build …",
        )
    };
    Cure {
        gives: gives.to_owned(),
        lines: lines.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cure_asks_for_everything() {
        for kind in [
            Container::Docker,
            Container::Podman,
            Container::Kubernetes,
            Container::NotSeen,
        ] {
            for cure in container(kind) {
                assert!(!cure.lines.contains("privileged"), "{cure:?}");
            }
        }
    }

    #[test]
    fn the_range_is_written_in_both_forms() {
        let cure = subordinate_ids("anna", Some(165_536));
        assert!(cure.lines.contains("--add-subuids 165536-231071"), "{cure:?}");
        assert!(
            cure.lines.contains("'anna:165536:65536' >> /etc/subgid"),
            "{cure:?}"
        );
        assert!(subordinate_ids("anna", None).lines.contains("no 65536 ids"));
    }
}
