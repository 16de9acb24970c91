//! Puts `[secret NAME]` in the place of secrets in a text that comes in pieces.
//!
//! White space counts for nothing: a secret that is folded into lines, indented, or spread out by a dump of bytes is
//! found as one that is not. What is held back is never more than the longest form of a secret.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton as _;
use aho_corasick::automaton::StateID;
use aho_corasick::nfa::contiguous::NFA;

use crate::model::secret::SECRET_BYTES_MIN;
use crate::model::secret::Secret;
use crate::model::secret::SecretError;
use crate::secrets::forms::all_forms;
use crate::secrets::forms::encoded_max;
use crate::secrets::forms::lines;

/// At a line's end so little of what may become a secret is let go, so that lines are not held back for one letter.
const LET_GO_BYTES_MAX: usize = 3;
/// No more is held back: what is put between the parts of a secret so that it takes longer is let go with it.
const HELD_BYTES_MAX: usize = 1 << 20;

/// What is looked for in texts.
pub struct Patterns {
    automaton: NFA,
    start: StateID,
    /// How much of a secret was read in each state.
    depths: HashMap<StateID, usize>,
    /// What stands for the secret of each pattern.
    labels: Vec<Arc<str>>,
}

impl Patterns {
    /// The patterns of these secrets; none if there are none.
    pub fn of(secrets: &[Secret]) -> Result<Option<Arc<Self>>, SecretError> {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut labels = Vec::new();
        for secret in secrets {
            let label: Arc<str> = format!("[secret {}]", secret.name).into();
            let value = secret.value.bytes();
            for form in all_forms(value, encoded_max(secrets.len()))
                .into_iter()
                .chain(lines(value))
            {
                let packed: Vec<u8> = form.bytes.into_iter().filter(|byte| !is_space(*byte)).collect();
                if packed.len() >= SECRET_BYTES_MIN {
                    patterns.push(packed);
                    labels.push(Arc::clone(&label));
                }
            }
        }
        if patterns.is_empty() {
            return Ok(None);
        }
        let too_many = |_| SecretError::TooMany {
            what: "their forms do not fit into one search",
        };
        let automaton = NFA::builder()
            .prefilter(false)
            .build(&patterns)
            .map_err(too_many)?;
        let too_many = |_| SecretError::TooMany {
            what: "their forms do not fit into one search",
        };
        let start = automaton.start_state(Anchored::No).map_err(too_many)?;
        let mut depths = HashMap::new();
        for pattern in &patterns {
            let mut state = start;
            for (position, byte) in pattern.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                depths.insert(state, position + 1);
            }
        }
        Ok(Some(Arc::new(Self {
            automaton,
            start,
            depths,
            labels,
        })))
    }

    /// A whole text without its secrets.
    pub fn redact(self: &Arc<Self>, text: &str) -> String {
        let mut redaction = Redaction::new(Arc::clone(self));
        redaction.take(text) + &redaction.rest()
    }
}

/// One text that comes in pieces.
pub struct Redaction {
    patterns: Arc<Patterns>,
    state: StateID,
    /// Where in the text the bytes are that may become a secret.
    open: VecDeque<u64>,
    /// What was found and is not behind us.
    found: VecDeque<Find>,
    /// What is not given out yet.
    held: Vec<u8>,
    /// Where in the text `held` begins.
    given: u64,
}

struct Find {
    start: u64,
    end: u64,
    label: Arc<str>,
    is_told: bool,
}

impl Redaction {
    /// A text from its beginning.
    pub fn new(patterns: Arc<Patterns>) -> Self {
        Self {
            state: patterns.start,
            patterns,
            open: VecDeque::new(),
            found: VecDeque::new(),
            held: Vec::new(),
            given: 0,
        }
    }

    /// Takes a piece and gives what is sure.
    pub fn take(&mut self, piece: &str) -> String {
        let first = self.given + self.held.len() as u64;
        self.held.extend_from_slice(piece.as_bytes());
        let mut sure = self.given;
        for (position, byte) in (first..).zip(piece.bytes()) {
            if is_space(byte) {
                if byte == b'\n' && self.open.len() <= LET_GO_BYTES_MAX {
                    sure = position + 1;
                }
                continue;
            }
            self.step(position, byte);
        }
        let end = self.given + self.held.len() as u64;
        if self.held.len() > HELD_BYTES_MAX {
            self.open.clear();
            self.state = self.patterns.start;
        }
        let sure = sure.max(self.open.front().copied().unwrap_or(end));
        self.give(sure)
    }

    /// What is left when nothing more comes.
    pub fn rest(&mut self) -> String {
        let all = self.give(self.given + self.held.len() as u64);
        self.open.clear();
        self.found.clear();
        self.state = self.patterns.start;
        all
    }

    fn step(&mut self, position: u64, byte: u8) {
        let automaton = &self.patterns.automaton;
        self.state = automaton.next_state(Anchored::No, self.state, byte);
        self.open.push_back(position);
        if automaton.is_match(self.state) {
            let ended =
                (0..automaton.match_len(self.state)).map(|index| automaton.match_pattern(self.state, index));
            if let Some(longest) = ended.max_by_key(|pattern| automaton.pattern_len(*pattern)) {
                let start = self.open[self.open.len() - automaton.pattern_len(longest)];
                let label = Arc::clone(&self.patterns.labels[longest.as_usize()]);
                self.add(start, position + 1, label);
            }
        }
        let depth = self.patterns.depths.get(&self.state).copied().unwrap_or(0);
        while self.open.len() > depth {
            self.open.pop_front();
        }
    }

    /// One find more; those that meet become one.
    fn add(&mut self, start: u64, end: u64, label: Arc<str>) {
        let mut new = Find {
            start,
            end,
            label,
            is_told: false,
        };
        while let Some(last) = self.found.back().filter(|last| last.end > start) {
            new.start = new.start.min(last.start);
            new.is_told |= last.is_told;
            if last.end - last.start > end - start {
                new.label = Arc::clone(&last.label);
            }
            self.found.pop_back();
        }
        self.found.push_back(new);
    }

    /// Gives everything before `sure`, or a little less where that would cut a character in two.
    fn give(&mut self, sure: u64) -> String {
        let mut count = usize::try_from(sure - self.given).unwrap_or(0);
        while count > 0 && self.held.get(count).is_some_and(|byte| byte & 0xc0 == 0x80) {
            count -= 1;
        }
        let until = self.given + count as u64;
        let mut text = Vec::new();
        let mut here = self.given;
        for find in self.found.iter_mut().take_while(|find| find.start < until) {
            text.extend_from_slice(between(&self.held, self.given, here, find.start));
            if !find.is_told {
                text.extend_from_slice(find.label.as_bytes());
                find.is_told = true;
            }
            here = here.max(find.end.min(until));
        }
        // More of one that reaches to the end may come.
        self.found.retain(|find| find.end >= until);
        text.extend_from_slice(between(&self.held, self.given, here, until));
        self.held.drain(..count);
        self.given = until;
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The bytes of `held`, which begins at `first`, from `start` to `end`; none if the end is before the start.
fn between(held: &[u8], first: u64, start: u64, end: u64) -> &[u8] {
    let place = |position: u64| usize::try_from(position.saturating_sub(first)).unwrap_or(usize::MAX);
    held.get(place(start)..place(end)).unwrap_or_default()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::secret::Delivery;
    use crate::model::secret::SecretSpec;

    fn secret(name: &str, value: &str) -> Secret {
        let spec = SecretSpec::parse(name, Delivery::Binding).unwrap();
        spec.with(value.as_bytes().to_vec()).unwrap()
    }

    fn patterns(secrets: &[(&str, &str)]) -> Arc<Patterns> {
        let secrets: Vec<Secret> = secrets.iter().map(|(name, value)| secret(name, value)).collect();
        Patterns::of(&secrets).unwrap().unwrap()
    }

    /// What becomes of a text that comes in pieces of `size` characters.
    fn in_pieces(patterns: &Arc<Patterns>, text: &str, size: usize) -> String {
        let mut redaction = Redaction::new(Arc::clone(patterns));
        let characters: Vec<char> = text.chars().collect();
        let mut all = String::new();
        for piece in characters.chunks(size) {
            all += &redaction.take(&piece.iter().collect::<String>());
        }
        all + &redaction.rest()
    }

    #[test]
    fn a_secret_is_hidden_however_it_comes() {
        let patterns = patterns(
            &[("npm", "tok-0123456789"), ("é", "pässwörd-lang")]
                .map(|(name, value)| (if name == "é" { "word" } else { name }, value)),
        );
        for (text, expected) in [
            ("a tok-0123456789 b\n", "a [secret npm] b\n"),
            ("tok-0123456789", "[secret npm]"),
            ("tok-012345678\n", "tok-012345678\n"),
            ("tok-tok-0123456789tok-0123456789", "tok-[secret npm][secret npm]"),
            ("tok-0123456789\ntok-0123456789\n", "[secret npm]\n[secret npm]\n"),
            ("x pässwörd-lang y", "x [secret word] y"),
            ("basic dG9rLTAxMjM0NTY3ODk= end", "basic [secret npm] end"),
            ("746f6b2d30313233343536373839", "[secret npm]"),
            (
                " 74 6f 6b 2d 30 31 32 33\n 34 35 36 37 38 39\n",
                " [secret npm]\n",
            ),
            ("über allem", "über allem"),
        ] {
            for size in 1..=text.len() {
                assert_eq!(in_pieces(&patterns, text, size), expected, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn lines_and_indents_hide_nothing() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        let key = format!("-----BEGIN PRIVATE KEY-----\n{line}\nshortline\n-----END PRIVATE KEY-----\n");
        let patterns = patterns(&[("key", &key), ("token", "tok-0123456789-abcdefghij")]);
        let indented = key.replace('\n', "\r\n    ");
        for text in [&key, &indented, &key.replace('\n', "\\n")] {
            let told = in_pieces(&patterns, text, 7);
            assert!(
                told.starts_with("[secret key]") && !told.contains("MII"),
                "{told}"
            );
        }
        assert_eq!(patterns.redact(&format!("just {line}.")), "just [secret key].");
        assert_eq!(
            patterns.redact("tok-01234\n  56789-abcd\n  efghij\n"),
            "[secret token]\n"
        );
    }

    #[test]
    fn a_line_is_not_held_back_for_its_last_letters() {
        let patterns = patterns(&[("npm", "tok-0123456789")]);
        let mut redaction = Redaction::new(Arc::clone(&patterns));
        assert_eq!(redaction.take("got a tok\n"), "got a tok\n");
        assert_eq!(redaction.take("-0123456789 done\n"), "[secret npm] done\n");
        assert_eq!(redaction.take("got a tok-0"), "got a ");
        assert_eq!(redaction.take("x\n"), "tok-0x\n");
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let patterns = patterns(&[("npm", "tok-0123456789")]);
        let mut redaction = Redaction::new(Arc::clone(&patterns));
        let mut given = redaction.take("tok-01").len();
        for _ in 0..40 {
            given += redaction.take(&" ".repeat(64 << 10)).len();
            assert!(redaction.held.len() <= HELD_BYTES_MAX, "{}", redaction.held.len());
        }
        assert!(given > HELD_BYTES_MAX);
        let mut same = Redaction::new(Arc::clone(&patterns));
        for _ in 0..100_000 {
            same.take("tok-0123456789");
        }
        assert!(same.held.len() < 100 && same.found.len() < 3);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference_and_nothing_gets_through(
            parts in proptest::collection::vec(("[a-c\\n é-]{0,6}", any::<bool>()), 1..6),
            size in 1..20_usize,
        ) {
            let patterns = patterns(&[("one", "abcabcaab-ca"), ("two", "cab-cabbac")]);
            let mut text = String::new();
            for (part, is_first) in &parts {
                text += part;
                text += if *is_first { "abcabcaab-ca" } else { "cab-cabbac" };
            }
            let whole = patterns.redact(&text);
            prop_assert!(!whole.contains("abcabcaab-ca") && !whole.contains("cab-cabbac"));
            let joined: String = in_pieces(&patterns, &text, size).split_whitespace().collect();
            prop_assert!(!joined.contains("abcabcaab-ca") && !joined.contains("cab-cabbac"), "{joined}");
        }
    }
}
