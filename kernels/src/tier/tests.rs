use super::*;

#[test]
fn a_tier_is_found_by_its_name_if_this_processor_has_it() {
    assert_eq!(Tier::choose(None), Ok(Tier::detect()));
    assert_eq!(Tier::choose(Some("portable")), Ok(Tier::Portable));
    for tier in Tier::ALL {
        let chosen = Tier::choose(Some(tier.as_str()));
        assert_eq!(chosen.is_ok(), tier.is_supported(), "{chosen:?}");
    }
    let error = Tier::choose(Some("sse")).unwrap_err().to_string();
    assert_eq!(error, "`sse` is no kernel tier: avx512-vnni, avx512, avx2, portable");
}
