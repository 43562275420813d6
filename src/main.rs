fn main() -> std::process::ExitCode {
    cowfs::cli::main()
}
