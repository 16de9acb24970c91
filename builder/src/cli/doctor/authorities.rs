//! The certificates of authorities: those that packhorse trusts, and those that jobs get.

use std::path::PathBuf;

use crate::cli::config::Config;
use crate::cli::doctor::row::Row;
use crate::cli::doctor::row::State;
use crate::cli::setting::Setting;
use crate::cli::variable::Variable;
use crate::http::authorities;
use crate::http::authorities::Authority;
use crate::model::timestamp::Timestamp;

/// One file.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Who names it.
    origin: String,
    /// What is in it, or why it cannot be read.
    read: Result<Vec<Authority>, String>,
}

/// Reads the file that jobs get, and the one that the variable names where that is another.
pub(super) fn read(config: &Config) -> Vec<File> {
    let named = config.set(&[Variable::SslCertFile]);
    let mut files: Vec<File> = Vec::new();
    let candidates = config
        .ca_file()
        .into_iter()
        .chain(named.map(|file| file.map(PathBuf::from)));
    for Setting { value: path, origin } in candidates {
        if files.iter().all(|known| known.path != path) {
            let read = authorities::read(&path);
            let origin = origin.to_string();
            files.push(File { path, origin, read });
        }
    }
    files
}

/// A row for each file.
pub(super) fn rows(files: &[File], now: Timestamp) -> Vec<Row> {
    if files.is_empty() {
        return vec![
            Row::new(
                "authorities",
                State::Fail,
                "no file with certificates is there: nothing that speaks TLS can be trusted",
            )
            .cure("certificates (as root)", "apt install ca-certificates"),
        ];
    }
    files.iter().map(|file| row(file, now)).collect()
}

fn row(file: &File, now: Timestamp) -> Row {
    let name = "authorities";
    let place = format!("{} ({})", file.path.display(), file.origin);
    let renew = "correct `network.ca-file` in packhorse.toml, or SSL_CERT_FILE; it must name a file in PEM";
    let found = match &file.read {
        Err(why) => {
            return Row::new(name, State::Fail, format!("{place}: {why}")).cure("certificates", renew);
        }
        Ok(found) => found,
    };
    let expired = found
        .iter()
        .filter(|authority| authority.not_after.is_some_and(|end| end < now))
        .count();
    let unknown = found
        .iter()
        .filter(|authority| authority.not_after.is_none())
        .count();
    let count = found.len();
    let noun = if count == 1 { "certificate" } else { "certificates" };
    let some = |count: usize, what: &str| {
        if count == 0 {
            String::new()
        } else {
            format!(", {count} {what}")
        }
    };
    let words = format!(
        "{place}: {count} {noun}{}{}",
        some(expired, "expired"),
        some(unknown, "whose end cannot be read")
    );
    if count == expired {
        Row::new(name, State::Fail, words).cure("certificates that are valid", renew)
    } else if expired > 0 {
        // Distributions ship roots for years after their end; nothing that is valid is signed by them.
        Row::new(name, State::Info, words)
    } else {
        Row::new(name, State::Ok, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn file(read: Result<Vec<i64>, &str>) -> File {
        let authority = |end| Authority {
            not_after: Some(Timestamp(end)),
        };
        File {
            path: "/etc/corp/ca.pem".into(),
            origin: "environment variable SSL_CERT_FILE".to_owned(),
            read: read
                .map(|ends| ends.into_iter().map(authority).collect())
                .map_err(str::to_owned),
        }
    }

    #[test]
    fn each_state_of_a_file_has_its_row() {
        let later = NOW.0 + 1;
        for (read, state, words) in [
            (Ok(vec![later, later]), State::Ok, "2 certificates"),
            (Ok(vec![later, 1]), State::Info, "2 certificates, 1 expired"),
            (Ok(vec![1]), State::Fail, "1 certificate, 1 expired"),
            (Ok(Vec::new()), State::Fail, "0 certificates"),
            (Err("No such file"), State::Fail, "No such file"),
        ] {
            let row = row(&file(read), NOW);
            assert_eq!(row.state, state, "{row:?}");
            assert!(row.found.ends_with(words), "{row:?}");
        }
        assert_eq!(rows(&[], NOW)[0].state, State::Fail);
    }
}
