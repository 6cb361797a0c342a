//! Texts to load a router with.

use estafette_types::SplitMix64;

/// Common words, rarer ones that are several tokens, names, and what stands between words.
const WORDS: &str = "the of and to in is that for it as was with be by on not he his but at are this have from or had an \
    they which one you were her all she there would their we him been has when who will more no if out so said what up its \
    about into than them can only other new some could time these two may then do first any my now such like our over man \
    me even most made after also did many before must through back years where much your way well down should because long \
    each just state people those too mr how little good world make very year still see work life men day get here old both \
    between under last never place same another think house while high right might came off find states since used give \
    against three himself look few general hand school part small american home during number again mrs around thought \
    went say without however men's didn't we'll I've Paris Amsterdam Zanzibar Kowalczyk estafette runner baton relay \
    disaggregated prefill quantisation tokeniser microarchitecture unobtrusively xylophone kaleidoscopic hand-off well-known \
    naïve café über façade 日本 привет 3 17 2026 1,024 3.14 (see below) \"quoted\" first, second; third: end. done! why? --";

/// `words` words of English and of what is found among them, mostly about as many tokens; no two numbers give texts with a
/// common beginning.
pub fn story(number: u64, words: usize) -> String {
    let all: Vec<&str> = WORDS.split_whitespace().collect();
    let mut rng = SplitMix64::new(number);
    let mut text = format!("Story {number}:");
    for _ in 0..words {
        text.push(' ');
        text.push_str(all[rng.below(all.len() as u64) as usize]);
    }
    text
}
