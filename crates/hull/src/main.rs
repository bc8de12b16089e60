//! hull, an OCI runtime. All of it is in the library beside this file.

#[global_allocator]
static HEAP: sys::heap::Program = sys::heap::Program;

fn main() -> std::process::ExitCode {
    hull::main()
}
