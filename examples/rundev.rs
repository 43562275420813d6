use clap::Parser;
#[derive(Parser)]
#[command(version)]
struct Cli { #[command(flatten)] args: cowfs::cli::run::Args }
fn main() {
    let a: Vec<_> = std::env::args().collect();
    if a.get(1).is_some_and(|s| s == "--version") { println!("x"); return; }
    env_logger::init();
    let c = Cli::parse();
    std::process::exit(cowfs::cli::run::dev(c.args).into());
}
