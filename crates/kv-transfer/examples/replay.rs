//! Replays seeds of the simulation: `cargo run -p estafette-kv-transfer --features proof --example replay -- SEED`
//! tells everything that happens; with a second number, all seeds from the first to before the second are run
//! and only counted.

use estafette_kv_transfer::simulate;
use std::env::args;
use std::error::Error;

#[expect(clippy::print_stdout, reason = "it is what it is for")]
fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = args().skip(1).map(|arg| arg.parse()).collect::<Result<_, _>>()?;
    match numbers[..] {
        [seed] => {
            let run = simulate(seed, true);
            run.log.iter().for_each(|line| println!("{line}"));
            println!("{run}");
            run.violation.map_or(Ok(()), |violation| Err(violation.into()))
        }
        [from, to] => {
            let broken = |seed: &u64| simulate(*seed, false).violation.is_some();
            match (from..to).find(broken) {
                Some(seed) => Err(format!("seed {seed} breaks an invariant").into()),
                None => Ok(()),
            }
        }
        _ => Err("one seed, or the first and the one after the last".into()),
    }
}
