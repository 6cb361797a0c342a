//! The soak in short; `cargo run --release -p estafette-integration-tests --example soak` is the long one.

use estafette_integration_tests::soak::{SoakOptions, run};

#[test]
fn whatever_fails_every_answer_is_the_undisturbed_one() {
    let options = SoakOptions {
        seed: 1,
        requests: 60,
        faults: 8,
        router_faults: 2,
        clients: 8,
        catalogue: 16,
    };
    println!("{}", run(options));
}
