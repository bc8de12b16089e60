//! The program that looks at a container from inside, and attacks it.
//!
//! `probe report` prints what it sees as JSON; the other commands are parts of tests of security.

mod attack;
mod report;
mod strain;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["report"] => println!("{}", report::report()),
        ["winsize"] => report::winsize(),
        ["listen-fds"] => report::listen_fds(),
        ["hog", megabytes] => strain::hog(number(megabytes)),
        ["fork", count] => strain::fork(number(count)),
        ["notify", text] => strain::notify(text),
        ["watch"] => attack::watch(),
        ["overwrite"] => attack::overwrite(),
        ["escape", mark] => attack::escape(mark),
        _ => {
            eprintln!("probe: unknown command {words:?}");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|e| panic!("probe: {text:?}: {e}"))
}
