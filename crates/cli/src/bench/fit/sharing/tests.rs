use super::*;

fn sample(n: u32, micros: u64) -> StepSample {
    StepSample { shape: StepShape { chunks: vec![(n, 0)], ..StepShape::default() }, micros }
}

#[test]
fn steps_are_compared_with_those_of_their_own_shape() {
    let alone = [sample(16, 100), sample(64, 1000)];
    let beside = [sample(64, 1500), sample(16, 250), sample(128, 9000)];
    let ratios: Vec<_> = ratios_of(&alone, &beside)
        .into_iter()
        .map(|(shape, ratio)| (shape.chunks[0].0, ratio))
        .collect();
    assert_eq!(ratios, [(64, 1.5), (16, 2.5)], "128 were not measured alone");
}

/// What is measured alone must not run beside the rest of the neighbour's work.
#[test]
fn whoever_gives_an_order_goes_on_only_when_it_is_followed() {
    let (orders, working) = (Orders::new(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            orders.follow(|| {
                working.store(true, std::sync::atomic::Ordering::SeqCst);
                std::thread::sleep(10 * LOOK);
                working.store(false, std::sync::atomic::Ordering::SeqCst);
                Ok(())
            })
        });
        for _ in 0..5 {
            orders.tell(Doing::Working).unwrap();
            orders.tell(Doing::Resting).unwrap();
            assert!(!working.load(std::sync::atomic::Ordering::SeqCst));
        }
        orders.tell(Doing::Leaving).unwrap();
        neighbour.join().unwrap().unwrap();
    });
}
