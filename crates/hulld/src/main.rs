//! hulld, a Kubernetes CRI runtime. All of it is in the library beside this file.

fn main() -> std::process::ExitCode {
    hulld::main()
}
