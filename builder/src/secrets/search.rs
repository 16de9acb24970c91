//! Looks for secrets in what a build makes: in files as they go into a layer, and in small texts.

use std::fmt;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use aho_corasick::AhoCorasickKind;

use crate::model::secret::Secret;
use crate::model::secret::SecretError;
use crate::model::secret::SecretFound;
use crate::oci::tar::inspector::Inspector;
use crate::secrets::forms::all_forms;
use crate::secrets::forms::encoded_max;
use crate::secrets::forms::pem_lines;

/// Patterns of no more bytes get the faster and larger automaton.
const FAST_BYTES_MAX: usize = 16 << 10;

/// What is looked for, whoever looks.
pub struct Search {
    automaton: AhoCorasick,
    /// What each pattern is.
    finds: Vec<SecretFound>,
    longest: usize,
}

impl Search {
    /// A search for these secrets in all forms; none if there are none.
    pub fn of(secrets: &[Secret]) -> Result<Option<Arc<Self>>, SecretError> {
        let (mut patterns, mut finds) = (Vec::new(), Vec::new());
        for secret in secrets {
            let value = secret.value.bytes();
            let forms = all_forms(value, encoded_max(secrets.len()));
            for form in forms.into_iter().chain(pem_lines(value)) {
                finds.push(SecretFound {
                    secret: secret.name.clone(),
                    form: form.words,
                });
                patterns.push(form.bytes);
            }
        }
        let bytes: usize = patterns.iter().map(Vec::len).sum();
        let Some(longest) = patterns.iter().map(Vec::len).max() else {
            return Ok(None);
        };
        let kind = if bytes <= FAST_BYTES_MAX {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        let built = AhoCorasick::builder().kind(Some(kind)).build(&patterns);
        let automaton = built.map_err(|_| SecretError::TooMany {
            what: "their forms do not fit into one search",
        })?;
        Ok(Some(Arc::new(Self {
            automaton,
            finds,
            longest,
        })))
    }

    /// The first secret in these bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<SecretFound> {
        let found = self.automaton.find(bytes)?;
        Some(self.finds[found.pattern().as_usize()].clone())
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The automaton would show what is looked for.
        formatter.debug_struct("Search").finish_non_exhaustive()
    }
}

/// A search through one layer: each file's name and contents are looked at as they are written.
pub struct LayerSearch {
    search: Arc<Search>,
    /// The last bytes of the file, in which a secret may begin.
    tail: Vec<u8>,
}

impl LayerSearch {
    /// A search from the layer's beginning.
    pub fn new(search: Arc<Search>) -> Self {
        Self {
            search,
            tail: Vec::new(),
        }
    }
}

impl Inspector for LayerSearch {
    fn name(&mut self, name: &[u8]) -> Result<(), SecretFound> {
        self.tail.clear();
        self.search.find(name).map_or(Ok(()), Err)
    }

    fn contents(&mut self, bytes: &[u8]) -> Result<(), SecretFound> {
        let overlap = self.search.longest - 1;
        if !self.tail.is_empty() {
            // What begins in the piece before ends in the first bytes of this one.
            self.tail.extend_from_slice(&bytes[..bytes.len().min(overlap)]);
            if let Some(found) = self.search.find(&self.tail) {
                return Err(found);
            }
        }
        if let Some(found) = self.search.find(bytes) {
            return Err(found);
        }
        if bytes.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - overlap..]);
        } else {
            if self.tail.is_empty() {
                self.tail.extend_from_slice(bytes);
            }
            let surplus = self.tail.len().saturating_sub(overlap);
            self.tail.drain(..surplus);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Delivery;
    use crate::model::secret::SecretSpec;

    fn search(value: &str) -> Arc<Search> {
        let spec = SecretSpec::parse("npm", Delivery::Binding).unwrap();
        Search::of(&[spec.with(value.as_bytes().to_vec()).unwrap()])
            .unwrap()
            .unwrap()
    }

    #[test]
    fn a_secret_is_found_however_its_file_is_cut() {
        let search = search("tok-0123456789");
        let file = b"....tok-0123456789....";
        for size in 1..=file.len() {
            let mut layer = LayerSearch::new(Arc::clone(&search));
            layer.name(b"/layers/a").unwrap();
            let found = file.chunks(size).find_map(|piece| layer.contents(piece).err());
            assert_eq!(
                found.unwrap().to_string(),
                "secret npm, as it is",
                "in pieces of {size}"
            );
        }
        let mut layer = LayerSearch::new(search);
        assert!(layer.name(b"/layers/tok-0123456789").is_err());
        layer.contents(b"tok-0123").unwrap();
        layer.name(b"/layers/next").unwrap();
        layer.contents(b"456789").unwrap();
    }

    #[test]
    fn each_form_has_its_words() {
        let search = search("tok/0123456789?\n");
        for (text, words) in [
            ("tok/0123456789?", "as it is"),
            ("user:dG9rLzAxMjM0NTY3ODk/", "in base64"),
            ("tok%2F0123456789%3F", "percent-encoded"),
            ("746f6b2f303132333435363738393f", "in hex"),
            ("tok\\/0123456789?", "escaped for JSON"),
        ] {
            let found = search.find(text.as_bytes()).map(|found| found.form);
            assert_eq!(found, Some(words), "{text}");
        }
        assert!(search.find(b"tok/012345678").is_none());
    }
}
