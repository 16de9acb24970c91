//! packhorse: parse, log, run one command, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    let code = match arguments.first().and_then(|name| name.to_str()) {
        Some("__monitor") => packhorse::sandbox::monitor::main(),
        Some("__as-user") => packhorse::sandbox::identity::as_user_main(&arguments[1..]),
        _ => 2,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
