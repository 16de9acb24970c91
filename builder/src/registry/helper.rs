//! Docker's credential helpers: `docker-credential-NAME get`, the server on its standard input.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::registry::credentials::Credential;
use crate::registry::error::RegistryError;

/// Bytes of a helper's answer that are read.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper `name` for `server`; none if it has nothing for it.
pub(super) async fn ask(
    user_command: &[OsString],
    name: &str,
    server: &str,
    timeout: Duration,
) -> Result<Option<Credential>, RegistryError> {
    let program = format!("docker-credential-{name}");
    let wrong = |why: String| RegistryError::Credentials {
        from: program.clone(),
        why,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(wrong("that is not a helper's name".to_owned()));
    }
    let run = run(user_command, &program, server);
    let answer = tokio::time::timeout(timeout, run).await;
    let (succeeded, output) = answer
        .map_err(|_| wrong(format!("it did not answer within {} seconds", timeout.as_secs())))?
        .map_err(|error| wrong(error.to_string()))?;
    if !succeeded {
        let text = String::from_utf8_lossy(&output);
        // The protocol has no code for it: every helper says these words.
        if text.to_lowercase().contains("not found") {
            return Ok(None);
        }
        let text: String = text
            .trim()
            .chars()
            .take(200)
            .flat_map(char::escape_debug)
            .collect();
        return Err(wrong(format!("it failed: {text}")));
    }
    // The answer itself is never shown: it is the secret.
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| wrong("its answer is not the JSON it should be".to_owned()))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credential::IdentityToken(answer.secret),
        _ => Credential::Basic {
            user: answer.username,
            password: answer.secret,
        },
    }))
}

async fn run(user_command: &[OsString], program: &str, server: &str) -> std::io::Result<(bool, Vec<u8>)> {
    let mut words = user_command
        .iter()
        .cloned()
        .chain([OsString::from(program), OsString::from("get")]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).current_dir("/").kill_on_drop(true);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says what it thinks of it by its exit status.
        let _unread = stdin.write_all(server.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}
