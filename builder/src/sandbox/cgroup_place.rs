//! Where in the machine's hierarchies a job's cgroups may be made, by the texts of `/proc/self/cgroup` and
//! `/proc/self/mountinfo` (cgroups(7)).

use std::path::Path;
use std::path::PathBuf;

/// The process's own cgroup of a v1 controller, as a path.
pub(crate) fn version_1_parent(own: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let inside = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers
            .split(',')
            .any(|one| one == controller)
            .then(|| fields.next())?
    })?;
    mount_points(mounts, |kind, options| {
        kind == "cgroup" && options.split(',').any(|one| one == controller)
    })
    .find_map(|(root, point)| existing(&root, &point, inside))
}

/// Where a v2 cgroup may be made: below the process's own, or beside it in a subtree that is delegated.
pub(crate) fn version_2_parents(own: &str, mounts: &str) -> Vec<PathBuf> {
    let Some(inside) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Vec::new();
    };
    let own = mount_points(mounts, |kind, _| kind == "cgroup2")
        .find_map(|(root, point)| Some((existing(&root, &point, inside)?, point)));
    match own {
        Some((own, top)) if own != top => {
            let beside = own.parent().map(Path::to_owned);
            [Some(own), beside].into_iter().flatten().collect()
        }
        Some((own, _)) => vec![own],
        None => Vec::new(),
    }
}

/// Root and mount point of the mounts that `wanted` takes by type and super options.
pub(crate) fn mount_points(
    mounts: &str,
    wanted: impl Fn(&str, &str) -> bool,
) -> impl Iterator<Item = (String, PathBuf)> {
    mounts.lines().filter_map(move |line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        wanted(kind, options).then(|| (root.to_owned(), PathBuf::from(point)))
    })
}

/// A container often mounts only its own part, at the mount point itself.
fn existing(root: &str, point: &Path, inside: &str) -> Option<PathBuf> {
    let below = inside
        .strip_prefix(root)
        .unwrap_or(inside)
        .trim_start_matches('/');
    let path = if below.is_empty() {
        point.to_owned()
    } else {
        point.join(below)
    };
    if path.is_dir() {
        Some(path)
    } else {
        point.is_dir().then(|| point.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                          41 31 0:38 / / rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_parent_is_the_own_cgroup_or_the_mount_point() {
        let parents = version_2_parents("0::/no/such/folder\n4:memory:/x\n", MOUNTS);
        assert_eq!(parents, [PathBuf::from("/")]);
        assert_eq!(
            version_2_parents("0::/usr/bin\n", MOUNTS),
            [PathBuf::from("/usr/bin"), PathBuf::from("/usr")]
        );
        assert_eq!(version_1_parent("4:memory:/x\n", "", "memory"), None);
        assert_eq!(version_1_parent("4:cpu:/x\n", MOUNTS, "memory"), None);
    }
}
