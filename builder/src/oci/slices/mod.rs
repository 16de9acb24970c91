//! Divides an app into layers by the slices that buildpacks ask for (cnb §5.4). Pure.

mod pattern;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

use crate::model::failure::Facts;
use crate::model::failure::Failure;
use crate::oci::tree::TreePath;

/// A pattern that is malformed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the slice pattern `{pattern}` is malformed")]
pub struct SliceError {
    /// The pattern as the buildpack wrote it.
    pub pattern: String,
}

impl Failure for SliceError {
    fn facts(&self) -> Facts {
        Facts::user("slice_pattern_malformed")
    }
}

/// The paths of each slice, in order, and those of the remainder as the last; each sorted by whole text. `paths` is
/// every path of the app with its root as the empty path. An empty list is an empty layer.
pub fn divide(paths: &[TreePath], slices: &[Vec<String>]) -> Result<Vec<Vec<PathBuf>>, SliceError> {
    let mut app = App::new(paths);
    let mut layers = Vec::with_capacity(slices.len() + 1);
    for slice in slices {
        let mut taken = BTreeSet::new();
        for pattern in slice {
            for position in app.matching(pattern)? {
                app.take(position, &mut taken);
            }
        }
        layers.push(app.sorted(taken));
    }
    let rest = (0..app.paths.len())
        .filter(|&position| !app.is_consumed[position])
        .collect();
    layers.push(app.sorted(rest));
    Ok(layers)
}

/// The paths by position, what is in each folder, and which paths are in a slice with all that is in them.
struct App<'app> {
    paths: &'app [TreePath],
    positions: BTreeMap<&'app Path, usize>,
    children: BTreeMap<usize, Vec<usize>>,
    is_consumed: Vec<bool>,
}

impl<'app> App<'app> {
    fn new(paths: &'app [TreePath]) -> Self {
        let positions: BTreeMap<&Path, usize> = paths
            .iter()
            .enumerate()
            .map(|(position, entry)| (entry.path.as_path(), position))
            .collect();
        let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (position, entry) in paths.iter().enumerate() {
            if let Some(&parent) = entry.path.parent().and_then(|parent| positions.get(parent)) {
                children.entry(parent).or_default().push(position);
            }
        }
        Self {
            paths,
            positions,
            children,
            is_consumed: vec![false; paths.len()],
        }
    }

    /// What a pattern matches and is in no slice yet. The app itself is matched by nothing.
    fn matching(&self, pattern: &str) -> Result<Vec<usize>, SliceError> {
        let malformed = |_| SliceError {
            pattern: pattern.to_owned(),
        };
        let cleaned = pattern::clean(pattern);
        let mut matching = Vec::new();
        for (position, entry) in self.paths.iter().enumerate() {
            let name = entry.path.as_os_str().as_bytes();
            if !name.is_empty() && pattern::matches(cleaned.as_bytes(), name).map_err(malformed)? {
                matching.push(position);
            }
        }
        matching.retain(|&position| !self.is_consumed[position]);
        Ok(matching)
    }

    /// Takes a path with all that is in it and is not taken yet, and names the folders above it too.
    fn take(&mut self, position: usize, taken: &mut BTreeSet<usize>) {
        if self.is_consumed[position] {
            return;
        }
        let mut waiting = vec![position];
        while let Some(position) = waiting.pop() {
            self.is_consumed[position] = true;
            taken.insert(position);
            let inside = self.children.get(&position).into_iter().flatten();
            waiting.extend(inside.filter(|&&inside| !self.is_consumed[inside]));
        }
        for parent in self.paths[position].path.ancestors().skip(1) {
            let Some(&parent) = self.positions.get(parent) else {
                continue;
            };
            taken.insert(parent);
            // A folder is consumed when all that is in it is.
            let inside = self.children.get(&parent).into_iter().flatten();
            self.is_consumed[parent] = inside.into_iter().all(|&inside| self.is_consumed[inside]);
        }
    }

    fn sorted(&self, positions: BTreeSet<usize>) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = positions
            .into_iter()
            .map(|position| self.paths[position].path.clone())
            .collect();
        paths.sort_unstable_by(|left, right| left.as_os_str().as_bytes().cmp(right.as_os_str().as_bytes()));
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(paths: &[&str]) -> Vec<TreePath> {
        let is_directory =
            |path: &str| path.is_empty() || paths.iter().any(|other| other.starts_with(&format!("{path}/")));
        paths
            .iter()
            .map(|path| TreePath {
                path: path.into(),
                is_directory: is_directory(path),
            })
            .collect()
    }

    fn divided(paths: &[&str], slices: &[&[&str]]) -> Vec<Vec<String>> {
        let slices: Vec<Vec<String>> = slices
            .iter()
            .map(|slice| slice.iter().map(ToString::to_string).collect())
            .collect();
        let layers = divide(&app(paths), &slices).unwrap();
        let shown = |path: PathBuf| path.to_str().unwrap().to_owned();
        layers
            .into_iter()
            .map(|layer| layer.into_iter().map(shown).collect())
            .collect()
    }

    #[test]
    fn the_reference_s_own_example_is_divided_alike() {
        let paths = [
            "",
            "dir-link",
            "file-link.txt",
            "file.txt",
            "other-dir",
            "other-dir/other-file.md",
            "other-dir/other-file.txt",
            "some-dir",
            "some-dir/file.md",
            "some-dir/some-file.txt",
        ];
        let slices: [&[&str]; 4] = [
            &["*.txt", "**/*.txt"],
            &["other-dir"],
            &["dir-link/*"],
            &["../**/dir-to-exclude"],
        ];
        let layers = divided(&paths, &slices);
        let first = [
            "",
            "file-link.txt",
            "file.txt",
            "other-dir",
            "other-dir/other-file.txt",
            "some-dir",
            "some-dir/some-file.txt",
        ];
        assert_eq!(layers[0], first);
        assert_eq!(layers[1], ["", "other-dir", "other-dir/other-file.md"]);
        assert!(layers[2].is_empty() && layers[3].is_empty());
        assert_eq!(layers[4], ["", "dir-link", "some-dir", "some-dir/file.md"]);
    }

    #[test]
    fn nothing_remains_when_all_is_taken() {
        let layers = divided(&["", "a", "b", "b/c"], &[&["*"]]);
        assert_eq!(layers, [vec!["", "a", "b", "b/c"], vec![]]);
    }

    #[test]
    fn the_app_itself_is_matched_by_nothing_and_bad_patterns_are_errors() {
        assert_eq!(divided(&["", "a"], &[&[".", "/a"]]), [vec![], vec!["", "a"]]);
        let broken = divide(&app(&["", "a"]), &[vec!["[".to_owned()]]);
        assert_eq!(
            broken.unwrap_err().to_string(),
            "the slice pattern `[` is malformed"
        );
    }
}
