//! `tidings-load`: reads the arguments, runs one scenario, prints its report. Exits with 1 if the server
//! lost, doubled or reordered a message or left a tick out, with 2 if the run could not be done.

use std::process::ExitCode;

use clap::Parser;
use tidings_load::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    match tidings_load::run(&args) {
        Ok(report) => {
            if args.common.json {
                println!("{}", report.json());
            } else {
                print!("{}", report.table());
            }
            for fault in report.faults() {
                eprintln!("tidings-load: {fault}");
            }
            ExitCode::from(u8::from(!report.faults().is_empty()))
        }
        Err(error) => {
            eprintln!("tidings-load: {error}");
            ExitCode::from(2)
        }
    }
}
