use super::*;
use crate::tiny::tiny_llama;
use crate::writer::GgufWriter;
use proptest::prelude::*;

fn small() -> Vec<u8> {
    let mut writer = GgufWriter::default();
    writer.key("a.text", &Value::Text("relay".into()));
    writer.key("a.list", &Value::List(vec![Value::Integer(1), Value::Integer(7)]));
    writer.tensor("w", &[2, 3], TensorType::F32, (0..24).collect());
    writer.finish()
}

fn error(bytes: Vec<u8>) -> String {
    GgufFile::from_bytes(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read() {
    let file = GgufFile::from_bytes(small()).unwrap();
    assert_eq!(file.text("a.text").unwrap(), "relay");
    assert_eq!(
        file.value("a.list"),
        Some(&Value::List(vec![Value::Integer(1), Value::Integer(7)]))
    );
    let tensor = file.tensor("w").unwrap();
    assert_eq!((tensor.rows, tensor.cols, tensor.data), (2, 3, &(0..24).collect::<Vec<u8>>()[..]));
    assert!(file.tensor("v").is_none());
}

#[test]
fn each_kind_of_damage_has_its_own_words() {
    assert_eq!(error(b"GGML".to_vec()), "this is no GGUF file: it starts with [47, 47, 4d, 4c]");
    let mut old = small();
    old[4] = 1;
    assert_eq!(error(old), "GGUF version 1 is not supported, only 2 and 3 (little endian)");
    let mut cut = small();
    cut.truncate(cut.len() - 1);
    assert!(
        error(cut).starts_with("the file is truncated: tensor `w` at byte"),
        "names the tensor"
    );
    let mut unknown = small();
    let at = unknown.windows(5).rposition(|w| w == [3, 0, 0, 0, 0]).unwrap();
    unknown[at + 8 + 8] = 99;
    assert!(error(unknown).contains("type 99 is not supported, only F32, F16"));
    let mut many = small();
    many[8..16].fill(0xff);
    assert!(error(many).contains("tensors, at most"));
}

/// Of a file with one tensor of these bytes.
fn digest(data: Vec<u8>) -> [u8; 32] {
    let mut writer = GgufWriter::default();
    writer.tensor("w", &[data.len() as u64 / 4], TensorType::F32, data);
    GgufFile::from_bytes(writer.finish()).unwrap().digest()
}

#[test]
fn the_digest_covers_the_header_and_both_ends_of_every_tensor() {
    let of = |seed| GgufFile::from_bytes(tiny_llama(seed)).unwrap().digest();
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2), "one architecture, other weights");
    let changed = |at: usize| {
        let mut data = vec![7; 20_000];
        data[at] ^= 1;
        digest(data)
    };
    let whole = digest(vec![7; 20_000]);
    for at in [0, 4095, 20_000 - 4096, 19_999] {
        assert_ne!(changed(at), whole, "{at}");
    }
    assert_eq!(changed(10_000), whole, "the middle is not read");
    assert_ne!(digest(vec![7; 20_004]), whole);
    let mut writer = GgufWriter::default();
    writer.key("a", &Value::Integer(1));
    writer.tensor("w", &[5000], TensorType::F32, vec![7; 20_000]);
    assert_ne!(GgufFile::from_bytes(writer.finish()).unwrap().digest(), whole);
}

#[test]
fn what_is_there_twice_is_refused() {
    let mut writer = GgufWriter::default();
    writer.key("a", &Value::Integer(1)).key("a", &Value::Integer(1));
    assert_eq!(error(writer.finish()), "metadata `a`: is there twice");
    let mut writer = GgufWriter::default();
    writer.tensor("w", &[1], TensorType::F32, vec![0; 4]);
    writer.tensor("w", &[2], TensorType::F32, vec![0; 8]);
    assert_eq!(error(writer.finish()), "tensor `w`: is there twice");
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let whole = small();
    for len in 0..whole.len() {
        assert!(GgufFile::from_bytes(whole[..len].to_vec()).is_err(), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = GgufFile::from_bytes([&b"GGUF\x03\0\0\0"[..], &bytes].concat());
    }

    #[test]
    fn flipped_bytes_never_panic(at in 0..2500usize, value in any::<u8>()) {
        let mut bytes = tiny_llama(1);
        bytes[at] = value;
        let _ = GgufFile::from_bytes(bytes);
    }
}
