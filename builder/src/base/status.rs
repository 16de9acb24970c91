//! dpkg's database, so that `dpkg -l`, `dpkg -S` and scanners see every package.

use std::fmt::Write as _;

use crate::base::unpack::Unpacked;

/// Control files that dpkg keeps and that say something without the scripts. Not `triggers`: dpkg would want to run them.
const KEPT: [&str; 2] = ["md5sums", "conffiles"];

/// The files of `/var/lib/dpkg`, with paths relative to it.
pub(super) fn database(packages: &[Unpacked], architecture: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = [
        ("arch", format!("{architecture}\n")),
        ("arch-native", format!("{architecture}\n")),
        ("available", String::new()),
        ("diversions", String::new()),
        ("statoverride", String::new()),
        ("info/format", "1\n".to_owned()),
    ]
    .map(|(path, text)| (path.to_owned(), text.into_bytes()))
    .to_vec();
    let mut status = String::new();
    for unpacked in packages {
        let control = unpacked
            .control
            .get("control")
            .map_or_else(String::new, |bytes| text(bytes));
        let _infallible = writeln!(status, "{}", installed(&control));
        let name = &unpacked.package.name;
        let stem = if control.lines().any(|line| line == "Multi-Arch: same") {
            format!("info/{name}:{}", unpacked.package.architecture)
        } else {
            format!("info/{name}")
        };
        files.push((format!("{stem}.list"), list(&unpacked.listed).into_bytes()));
        for kept in KEPT {
            if let Some(bytes) = unpacked.control.get(kept) {
                files.push((format!("{stem}.{kept}"), bytes.clone()));
            }
        }
    }
    files.push(("status".to_owned(), status.into_bytes()));
    files
}

/// A package's paragraph with the line that says that it is installed, and a line feed at its end.
fn installed(control: &str) -> String {
    let mut paragraph = String::with_capacity(control.len() + 40);
    for line in control.trim_end().lines() {
        paragraph.push_str(line);
        paragraph.push('\n');
        if line.starts_with("Package:") {
            paragraph.push_str("Status: install ok installed\n");
        }
    }
    paragraph
}

/// `/.` for the root, then every path.
fn list(listed: &[Vec<u8>]) -> String {
    let mut list = String::new();
    for path in listed {
        let path = String::from_utf8_lossy(path);
        let _infallible = if path.is_empty() {
            writeln!(list, "/.")
        } else {
            writeln!(list, "/{path}")
        };
    }
    list
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_says_that_it_is_installed() {
        assert_eq!(
            installed("Package: a\nVersion: 1\nDescription: b\n .\n c\n\n"),
            "Package: a\nStatus: install ok installed\nVersion: 1\nDescription: b\n .\n c\n"
        );
        assert_eq!(
            list(&[vec![], b"usr".to_vec(), b"usr/bin".to_vec()]),
            "/.\n/usr\n/usr/bin\n"
        );
    }
}
