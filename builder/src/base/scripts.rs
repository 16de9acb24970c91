//! The maintainer scripts that somebody has looked at. None is ever run; what one would have done is in `made`.

use std::collections::BTreeSet;

use crate::base::unpack::Unpacked;
use crate::model::digest::Digest;

/// One line a script: package, script, SHA-256, what it does and what became of that.
const LOOKED_AT: &str = include_str!("../../data/debian-maintainer-scripts.tsv");
/// The scripts that dpkg would run when it installs a package.
const SCRIPTS: [&str; 3] = ["preinst", "postinst", "config"];

/// The scripts of `packages`, `PACKAGE.SCRIPT`, that nobody has looked at in this form.
pub(super) fn not_looked_at(packages: &[Unpacked]) -> Vec<String> {
    let known: BTreeSet<[&str; 3]> = LOOKED_AT.lines().filter_map(read_line).collect();
    let mut unknown = Vec::new();
    for unpacked in packages {
        for script in SCRIPTS {
            let Some(text) = unpacked.control.get(script) else {
                continue;
            };
            let name = unpacked.package.name.as_str();
            if !known.contains(&[name, script, &Digest::of(text).hex()]) {
                unknown.push(format!("{name}.{script}"));
            }
        }
    }
    unknown
}

fn read_line(line: &str) -> Option<[&str; 3]> {
    let mut fields = line.split('\t');
    let key = [fields.next()?, fields.next()?, fields.next()?];
    fields.next().filter(|note| !note.is_empty()).map(|_| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_a_script_its_digest_and_what_became_of_it() {
        let mut keys = Vec::new();
        for line in LOOKED_AT.lines().filter(|line| !line.starts_with('#')) {
            let [package, script, digest] = read_line(line).unwrap();
            assert!(SCRIPTS.contains(&script), "{line}");
            assert!(format!("sha256:{digest}").parse::<Digest>().is_ok(), "{line}");
            keys.push((package, script, digest));
        }
        assert!(keys.is_sorted(), "keep the lines in order");
        assert!(keys.len() > 40);
    }
}
