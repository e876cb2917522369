//! What devices cost an MSK cluster in connections. Measures and prints; tests nothing.
//!
//! - `headwater-fleet restart`: 200 clients at a restart of all brokers.
//! - `headwater-fleet idle [MINUTES]`: one agent that has nothing to say.
//! - `headwater-fleet cycle`: one agent in session mode `cycle`.
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

mod one;
mod restart;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["restart"] => restart::run(),
        ["idle"] => one::idle(20),
        ["idle", minutes] => one::idle(minutes.parse().unwrap_or(20)),
        ["cycle"] => one::cycle(),
        _ => {
            println!("headwater-fleet restart | idle [MINUTES] | cycle");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
