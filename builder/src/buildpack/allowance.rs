//! How many bytes of what a buildpack left are read in all: each file has its limit, but there may be many files.

use crate::sandbox::job::JobError;

/// Bytes that may still be read.
#[derive(Debug)]
pub struct Allowance {
    bytes_max: u64,
    left: u64,
}

impl Allowance {
    /// So many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            left: bytes_max,
        }
    }

    /// Takes what `read` gives, which is told how many bytes it may have: at most `size_bytes_max`.
    pub fn take(
        &mut self,
        size_bytes_max: u64,
        read: impl FnOnce(u64) -> Result<Option<Vec<u8>>, JobError>,
    ) -> Result<Option<Vec<u8>>, JobError> {
        let limit = size_bytes_max.min(self.left);
        let contents = read(limit).map_err(|error| match error {
            JobError::File { action, path, why } if limit < size_bytes_max => JobError::File {
                action,
                path,
                why: format!("{why}; of all such files {} bytes are read", self.bytes_max),
            },
            other => other,
        })?;
        self.left -= contents.as_ref().map_or(0, |contents| contents.len() as u64);
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(size: usize) -> impl FnOnce(u64) -> Result<Option<Vec<u8>>, JobError> {
        move |limit| {
            if size as u64 <= limit {
                return Ok(Some(vec![0; size]));
            }
            Err(JobError::File {
                action: "read",
                path: "/layers/a/b.toml".to_owned(),
                why: format!("it is longer than {limit} bytes"),
            })
        }
    }

    #[test]
    fn files_have_a_limit_each_and_one_together() {
        let mut allowance = Allowance::new(10);
        assert_eq!(allowance.take(6, file_of(6)).unwrap().unwrap().len(), 6);
        assert!(allowance.take(6, |_| Ok(None)).unwrap().is_none());
        let error = allowance.take(6, file_of(5)).unwrap_err().to_string();
        assert!(
            error.ends_with("it is longer than 4 bytes; of all such files 10 bytes are read"),
            "{error}"
        );
        assert_eq!(allowance.take(6, file_of(4)).unwrap().unwrap().len(), 4);
        let error = Allowance::new(10).take(6, file_of(7)).unwrap_err().to_string();
        assert!(error.ends_with("it is longer than 6 bytes"), "{error}");
    }
}
