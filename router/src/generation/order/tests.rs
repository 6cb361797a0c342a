use super::*;

fn token(index: u32) -> Token {
    Token { index, id: 100 + index, ..Token::default() }
}

fn drain(order: &mut Order) -> Vec<u32> {
    std::iter::from_fn(|| order.pop()).map(|token| token.index).collect()
}

#[test]
fn an_early_token_waits_for_the_first() {
    let mut order = Order::default();
    order.push(token(1)).unwrap();
    order.push(token(2)).unwrap();
    assert!(drain(&mut order).is_empty());
    assert_eq!(order.finish(), Err(Gap { missing: 0 }));
    order.push(token(0)).unwrap();
    assert_eq!(drain(&mut order), [0, 1, 2]);
    assert_eq!(order.finish(), Ok(()));
}

#[test]
fn a_leg_that_starts_again_repeats_nothing() {
    let mut order = Order::default();
    order.push(token(0)).unwrap();
    assert_eq!(drain(&mut order), [0]);
    for index in [0, 1, 1, 0, 2] {
        order.push(token(index)).unwrap();
    }
    assert_eq!(drain(&mut order), [1, 2]);
    assert_eq!(order.delivered(), 3);
}

#[test]
fn a_token_that_never_comes_is_not_waited_for_without_end() {
    let mut order = Order::default();
    let refused = (1..).map(|i| order.push(token(i))).position(|pushed| pushed.is_err());
    assert_eq!(refused, Some(WAITING_MAX));
}

#[test]
fn an_answer_that_goes_on_elsewhere_repeats_nothing_and_misses_nothing() {
    let mut order = Order::after(3);
    for index in [1, 4, 2, 3, 4] {
        order.push(token(index)).unwrap();
    }
    assert_eq!(drain(&mut order), [3, 4]);
    assert_eq!(order.finish(), Ok(()));
}
