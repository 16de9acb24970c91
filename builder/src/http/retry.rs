//! When a request is made again, and after how long.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::time::Duration;

use reqwest::header::DATE;
use reqwest::header::HeaderMap;
use reqwest::header::RETRY_AFTER;

/// Tries in all, the first included.
const TRIES_MAX: u32 = 5;
/// The wait before the second try; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// No wait is longer, unless the server asks for it.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// All waits of one request together.
const WAITS_MAX: Duration = Duration::from_secs(90);

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Tries {
    done: u32,
    waited: Duration,
}

impl Tries {
    /// How long to wait before the next try; none when there is none left. `asked` is the server's `Retry-After`.
    pub(super) fn next_wait(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.done += 1;
        let wait =
            asked.unwrap_or_else(|| with_jitter(FIRST_WAIT * (1 << self.done.min(10) >> 1)).min(WAIT_MAX));
        if self.done >= TRIES_MAX || self.waited + wait > WAITS_MAX {
            return None;
        }
        self.waited += wait;
        Some(wait)
    }
}

/// Whether a status says that the same request may go through later.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// What `Retry-After` asks for: seconds, or a date that is compared with the answer's own `Date` (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let seconds = |text: &str| Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second());
    let from = seconds(headers.get(DATE)?.to_str().ok()?)?;
    Some(Duration::from_secs(
        u64::try_from(seconds(value)? - from).unwrap_or(0),
    ))
}

/// Between half of `wait` and all of it, so that clients that failed together do not come back together.
fn with_jitter(wait: Duration) -> Duration {
    // The keys of std's hash tables are random: no other randomness is needed here.
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(0);
    wait / 2 + wait.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn waits_grow_and_end() {
        let mut tries = Tries::default();
        let waits: Vec<_> = std::iter::from_fn(|| tries.next_wait(None)).collect();
        assert_eq!(waits.len(), 4);
        for (wait, longest) in waits.iter().zip([250, 500, 1000, 2000]) {
            let longest = Duration::from_millis(longest);
            assert!(
                *wait >= longest / 2 && *wait <= longest,
                "{wait:?} of {longest:?}"
            );
        }
    }

    #[test]
    fn a_server_that_asks_for_too_long_is_left() {
        let mut tries = Tries::default();
        assert_eq!(
            tries.next_wait(Some(Duration::from_secs(60))),
            Some(Duration::from_secs(60))
        );
        assert_eq!(tries.next_wait(Some(Duration::from_secs(60))), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(
            RETRY_AFTER,
            HeaderValue::from_static("Fri, 31 Dec 1999 23:59:59 GMT"),
        );
        assert_eq!(retry_after(&headers), None);
        headers.insert(DATE, HeaderValue::from_static("Fri, 31 Dec 1999 23:59:49 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(10)));
    }
}
