//! hull, an OCI runtime. All of it is in the library beside this file.

fn main() -> std::process::ExitCode {
    hull::main()
}
