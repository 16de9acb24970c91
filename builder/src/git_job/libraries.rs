//! The shared libraries that this program needs, of which a job's root is made.
//!
//! What is mapped into this process is what the same program needs inside; none if it is static.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The kernel's list of what is mapped into this process (proc(5)).
const MAPS: &str = "/proc/self/maps";
/// Names for one library, so that no folder of thousands is bound.
const NAMES_MAX: usize = 8;
/// How much of its name a link to a library has in common with it: `lib` and a letter.
const BEGINNING_BYTES: usize = 4;

/// One library, by one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    /// The file on the machine.
    pub(super) file: PathBuf,
    /// The name by which it is asked for.
    pub(super) name: String,
}

impl Library {
    /// Whether it is the program that loads the others.
    pub(super) fn is_loader(&self) -> bool {
        self.name.starts_with("ld-") || self.name.starts_with("ld.")
    }
}

/// The libraries that are mapped into this process.
pub(super) fn of_this_process() -> Vec<Library> {
    // Without a list there are none, and the job says that it cannot begin.
    let maps = fs::read_to_string(MAPS).unwrap_or_default();
    mapped(&maps).iter().flat_map(|file| named(file)).collect()
}

/// The files with a library's name in a list of mappings, each once.
fn mapped(maps: &str) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for line in maps.lines() {
        let Some(start) = line.find('/') else { continue };
        let path = Path::new(&line[start..]);
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let is_library = path.extension().is_some_and(|ending| ending == "so") || name.contains(".so.");
        if is_library && !name.ends_with(" (deleted)") && !name.starts_with("libnss_") {
            found.insert(name.to_owned(), path.to_owned());
        }
    }
    found.into_values().collect()
}

/// A library by its name and by those of the links to it beside it: the file of an old C library is `libc-2.31.so`, which
/// is asked for as `libc.so.6`, and that of zlib `libz.so.1.3.1`.
fn named(file: &Path) -> Vec<Library> {
    let library = |name: String| Library {
        file: file.to_owned(),
        name,
    };
    let Some((folder, name)) = file.parent().zip(file.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let mut all = vec![library(name.to_owned())];
    if name
        .split_once(".so.")
        .is_some_and(|(_, version)| version.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return all;
    }
    let beginning = &name.as_bytes()[..name.len().min(BEGINNING_BYTES)];
    let links = fs::read_dir(folder).into_iter().flatten().flatten();
    let links = links
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(beginning))
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(name)))
        .filter_map(|entry| entry.file_name().into_string().ok());
    all.extend(links.take(NAMES_MAX).map(library));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_among_what_is_mapped() {
        let maps = "\
55 r--p 0 fe:00 1                          /usr/bin/packhorse
7f r--p 0 fe:00 2                          /usr/lib/x86_64-linux-gnu/libc.so.6
7f r-xp 1 fe:00 2                          /usr/lib/x86_64-linux-gnu/libc.so.6
7f r-xp 1 fe:00 2                          /usr/lib/locale/locale-archive
7f r-xp 1 fe:00 2                          /usr/lib/libold.so.1 (deleted)
7f r-xp 1 fe:00 3                          /usr/lib64/ld-linux-x86-64.so.2
7f rw-p 0 00:00 0                          [heap]
7f rw-p 0 00:00 0
";
        let found = mapped(maps);
        let expected = [
            "/usr/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        let libraries: Vec<Library> = found.iter().flat_map(|file| named(file)).collect();
        assert!(libraries[0].is_loader() && !libraries[1].is_loader());
    }

    #[test]
    fn a_library_is_known_by_the_links_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libc-2.31.so");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("libc-2.31.so", folder.path().join("libc.so.6")).unwrap();
        let names: Vec<String> = named(&file).into_iter().map(|library| library.name).collect();
        assert_eq!(names, ["libc-2.31.so", "libc.so.6"]);
    }
}
