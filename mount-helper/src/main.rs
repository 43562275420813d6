fn main() -> std::process::ExitCode {
    mount_helper::main()
}
