//! What jobs can be held with on this machine: a row for each thing that a sandbox is made of. Pure.

mod ids;

use std::path::PathBuf;

use crate::cli::doctor::cure;
use crate::cli::doctor::row::Cure;
use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::sandbox::cgroup_survey::Hierarchy;
use crate::sandbox::identity::Identity;
use crate::sandbox::identity::Surroundings;
use crate::sandbox::inventory::Inventory;
use crate::sandbox::inventory::Tried;
use crate::sandbox::kernel_settings::Container;
use crate::sandbox::kernel_settings::KernelSettings;
use crate::sandbox::ladder::Climbed;
use crate::sandbox::probe::Obstacle;
use crate::sandbox::probe::Refused;

/// The first version of Landlock that single-id jobs can be held with, and the first that keeps signals inside.
const LANDLOCK_WRITES: u32 = 2;
const LANDLOCK_SCOPES: u32 = 6;

/// Everything that the rows are made of.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// Who packhorse is.
    pub(super) surroundings: Surroundings,
    /// The user's login name.
    pub(super) login_name: Option<String>,
    /// The texts of `/etc/subuid`, `/etc/subgid` and `/etc/passwd`.
    pub(super) accounts: [String; 3],
    /// This program.
    pub(super) program: PathBuf,
    /// How high the ladder goes.
    pub(super) climbed: Climbed,
    /// What was tried.
    pub(super) inventory: Inventory,
}

impl Facts {
    /// The rows.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = vec![
            self.user_namespace(),
            self.mounts(),
            self.own_proc(),
            self.tried(
                "overlay",
                self.inventory.overlay,
                "layers can be laid over each other",
            ),
            self.ids(),
        ];
        rows.extend(self.id_helpers());
        rows.extend([
            self.mapped_mounts(),
            self.filters(),
            self.landlock(),
            self.tried(
                "network namespace",
                self.inventory.network,
                "a job has a network of its own",
            ),
            self.cgroups(),
            self.security_modules(),
        ]);
        rows
    }

    /// What is refused on the way with a user namespace.
    fn refused(&self) -> Option<Refused> {
        self.inventory.found.with_user_namespace
    }

    /// How bad it is that something is missing: without any rung nothing goes.
    fn state(&self) -> State {
        if self.climbed.best.is_some() {
            State::Warn
        } else {
            State::Fail
        }
    }

    fn tried(&self, name: &'static str, tried: Tried, works: &str) -> Row {
        match tried {
            Tried::Works => Row::new(name, State::Ok, works),
            Tried::Refused(_) => Row::new(
                name,
                self.state(),
                format!("refused: {}", tried.why().unwrap_or_default()),
            ),
            Tried::NotTried => Row::new(name, State::Info, "not tried: there is no namespace to try it in"),
        }
    }

    fn user_namespace(&self) -> Row {
        let name = "user namespace";
        match self.refused() {
            Some(refused) if refused.obstacle == Obstacle::Namespaces => {
                Row::new(name, self.state(), format!("cannot be made: {}", refused.why()))
                    .cures(self.namespace_cures())
            }
            _ => Row::new(name, State::Ok, "can be made"),
        }
    }

    fn namespace_cures(&self) -> Vec<Cure> {
        let kernel = &self.inventory.kernel;
        let mut cures = Vec::new();
        if kernel.user_namespaces_max == Some(0) {
            cures.push(cure::sysctl("user namespaces", "user.max_user_namespaces=15000"));
        }
        if kernel.user_namespaces_for_all == Some(false) && self.surroundings.uid != 0 {
            cures.push(cure::sysctl(
                "user namespaces for plain users",
                "kernel.unprivileged_userns_clone=1",
            ));
        }
        if cures.is_empty() {
            cures = cure::container(kernel.container);
        }
        cures
    }

    fn mounts(&self) -> Row {
        let name = "mounts";
        match self.refused() {
            None => Row::new(name, State::Ok, "a job may mount in its namespace"),
            Some(refused) if refused.obstacle == Obstacle::Proc => {
                Row::new(name, State::Ok, "a job may mount in its namespace")
            }
            Some(refused) if refused.obstacle == Obstacle::Namespaces => {
                let root = self.climbed.best.map(|best| best.identity) == Some(Identity::RootAlone);
                let found = if root {
                    "not in a user namespace; root may mount without one"
                } else {
                    "not tried: it needs a user namespace"
                };
                Row::new(name, State::Info, found)
            }
            Some(refused) => {
                let found = format!(
                    "refused in a user namespace: {}; a security module denies it",
                    refused.why()
                );
                let kernel = &self.inventory.kernel;
                let row = Row::new(name, self.state(), found);
                if kernel.apparmor_restricts == Some(true) {
                    let off = "kernel.apparmor_restrict_unprivileged_userns=0";
                    row.cures([
                        cure::apparmor_profile(&self.program),
                        cure::sysctl("user namespaces for every program", off),
                    ])
                    .never_tried(Some("AppArmor, and so this profile"))
                } else {
                    row.cures(cure::container(kernel.container))
                }
            }
        }
    }

    fn own_proc(&self) -> Row {
        let name = "own /proc";
        let found = &self.inventory.found;
        let is_proc = |refused: &Refused| refused.obstacle == Obstacle::Proc;
        let covered = [found.with_user_namespace, found.without_user_namespace]
            .into_iter()
            .flatten()
            .find(is_proc);
        match (covered, self.climbed.best) {
            (Some(refused), _) => {
                let places = &self.inventory.kernel.covered_proc;
                let places = if places.is_empty() {
                    String::new()
                } else {
                    format!("; parts of the one around are covered: {}", shortened(places))
                };
                Row::new(name, State::Warn, format!("refused: {}{places}", refused.why()))
                    .cures(cure::container(self.inventory.kernel.container))
            }
            (None, Some(_)) => Row::new(name, State::Ok, "a job sees its own processes alone"),
            (None, None) => Row::new(name, State::Info, "not tried: there is no namespace to try it in"),
        }
    }

    fn mapped_mounts(&self) -> Row {
        let name = "mapped mounts";
        match self.inventory.mapped_mount {
            Tried::Works => Row::new(
                name,
                State::Ok,
                "the owners of the data directory's files can be mapped for a job",
            ),
            Tried::NotTried => Row::new(name, State::Info, "not needed: only root's jobs have them"),
            refused @ Tried::Refused(_) => Row::new(
                name,
                State::Fail,
                format!(
                    "the file system of the data directory takes no id map: {}",
                    refused.why().unwrap_or_default()
                ),
            )
            .cure(
                "a data directory whose owners can be mapped",
                "packhorse --home DIRECTORY …    # on ext4, xfs, btrfs or tmpfs, with Linux 5.19 or newer",
            ),
        }
    }

    fn filters(&self) -> Row {
        let name = "system call filter";
        let notifies = match self.inventory.filter_notifies {
            Tried::Works => "; asking another process (user notify) is there too, and not used",
            _ => "; asking another process (user notify) is not there, and not used",
        };
        match self.inventory.filters {
            Tried::Works => Row::new(
                name,
                State::Ok,
                format!("both filters can be installed{notifies}"),
            ),
            refused => Row::new(
                name,
                State::Fail,
                format!(
                    "a filter cannot be installed: {}",
                    refused.why().unwrap_or_else(|| "not tried".to_owned())
                ),
            )
            .cure(
                "filters",
                "use a kernel with CONFIG_SECCOMP_FILTER=y, as every distribution has it",
            ),
        }
    }

    fn landlock(&self) -> Row {
        let name = "landlock";
        let is_single = matches!(
            self.climbed.best.map(|best| best.identity),
            Some(Identity::Single { .. })
        );
        let cure = |row: Row| {
            row.cure(
                "Landlock",
                "# Linux 6.12 or newer, with `landlock` in the boot parameter `lsm=` (see /sys/kernel/security/lsm)",
            )
        };
        match self.inventory.landlock.unwrap_or(0) {
            0 if is_single => cure(Row::new(
                name,
                State::Fail,
                "not there, and a job with a single id cannot be held without it",
            )),
            0 => cure(Row::new(
                name,
                State::Warn,
                "not there: signals are held by namespaces alone",
            )),
            version @ 1..LANDLOCK_WRITES if is_single => cure(Row::new(
                name,
                State::Fail,
                format!("version {version}, and a job with a single id needs {LANDLOCK_WRITES}"),
            )),
            version @ 1..LANDLOCK_SCOPES => cure(Row::new(
                name,
                State::Warn,
                format!("version {version}: signals and abstract sockets are held from {LANDLOCK_SCOPES} on"),
            )),
            version => Row::new(name, State::Ok, format!("version {version}")),
        }
    }

    fn cgroups(&self) -> Row {
        let name = "cgroups";
        let cgroups = &self.inventory.cgroups;
        let hierarchy = match cgroups.hierarchy {
            Hierarchy::None => "no cgroups are mounted",
            Hierarchy::Version1 => "v1",
            Hierarchy::Hybrid => "v1 beside v2",
            Hierarchy::Version2 => "v2",
        };
        let delegated = match (cgroups.hierarchy, cgroups.controllers.as_slice()) {
            (Hierarchy::None | Hierarchy::Version1, _) => String::new(),
            (_, []) => "; no v2 controller is delegated".to_owned(),
            (_, some) => format!("; v2 controllers here: {}", some.join(" ")),
        };
        let limits = cgroups.limits.join(", ");
        let found = format!("{hierarchy}{delegated}; a job gets: {limits}");
        let untried = (cgroups.hierarchy == Hierarchy::Version2)
            .then_some("a hierarchy of v2 alone; packhorse has met it as a made-up tree only");
        if cgroups.limits_all() {
            Row::new(name, State::Ok, found).never_tried(untried)
        } else {
            let notes = cgroups.notes.join("; ");
            Row::new(name, State::Warn, format!("{found}; {notes}"))
                .cures([cure::delegation(self.surroundings.uid == 0)])
                .never_tried(untried)
        }
    }

    fn security_modules(&self) -> Row {
        let name = "security modules";
        let KernelSettings {
            apparmor_profile,
            selinux_enforces,
            release,
            container,
            ..
        } = &self.inventory.kernel;
        let apparmor = apparmor_profile
            .as_ref()
            .map(|profile| format!("AppArmor, this program's profile is `{profile}`"));
        let selinux = selinux_enforces.map(|enforces| {
            if enforces {
                "SELinux, enforcing".to_owned()
            } else {
                "SELinux, permissive".to_owned()
            }
        });
        let modules: Vec<String> = [apparmor, selinux].into_iter().flatten().collect();
        let untried = match (apparmor_profile, selinux_enforces) {
            (Some(_), Some(_)) => Some("a machine with AppArmor or SELinux"),
            (Some(_), None) => Some("a machine with AppArmor"),
            (None, Some(_)) => Some("a machine with SELinux"),
            (None, None) => None,
        };
        let modules = if modules.is_empty() {
            "neither AppArmor nor SELinux".to_owned()
        } else {
            modules.join("; ")
        };
        let around = match container {
            Container::NotSeen => "",
            Container::Docker => "; in a container of Docker",
            Container::Podman => "; in a container of podman",
            Container::Kubernetes => "; in a pod of Kubernetes",
        };
        Row::new(name, State::Info, format!("{modules}; Linux {release}{around}")).never_tried(untried)
    }
}

/// The first of many.
fn shortened(places: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = places[..places.len().min(SHOWN)].join(", ");
    match places.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
