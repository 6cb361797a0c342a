//! `cargo run --release -p estafette-integration-tests --example soak -- --requests 2000 --faults 200`: workers and router of a
//! real cluster fail at random moments while clients ask. The program must be built with the same profile.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    reason = "the report is the result, and bad flags end it"
)]

use estafette_integration_tests::soak::{SoakOptions, run};

fn main() {
    let mut options = SoakOptions {
        seed: 1,
        requests: 2000,
        faults: 200,
        router_faults: 10,
        clients: 12,
        catalogue: 40,
    };
    let args: Vec<String> = std::env::args().skip(1).collect();
    for pair in args.chunks(2) {
        let [flag, value] = pair else { usage(&pair[0]) };
        let Ok(number) = value.parse::<usize>() else { usage(value) };
        match flag.as_str() {
            "--seed" => options.seed = number as u64,
            "--requests" => options.requests = number,
            "--faults" => options.faults = number,
            "--router-faults" => options.router_faults = number,
            "--clients" => options.clients = number,
            _ => usage(flag),
        }
    }
    println!("{}", run(options));
}

fn usage(what: &str) -> ! {
    let flags = "--seed, --requests, --faults, --router-faults, --clients";
    panic!("`{what}` is not understood: each of {flags} takes a number")
}
