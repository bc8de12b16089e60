//! The program that looks at a container from inside, and attacks it.
//!
//! `probe report` prints what it sees as JSON; the other commands are parts of tests of security.

mod attack;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["report"] => println!("{}", report::report()),
        ["hog", megabytes] => attack::hog(number(megabytes)),
        ["fork", count] => attack::fork(number(count)),
        ["open", how, path] => return attack::open(how, path),
        ["watch", seconds] => attack::watch(number(seconds)),
        ["overwrite", seconds] => attack::overwrite(number(seconds)),
        ["notify", text] => attack::notify(text),
        ["listen-fds"] => attack::listen_fds(),
        ["winsize"] => report::winsize(),
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
