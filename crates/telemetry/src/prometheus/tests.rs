use super::*;

#[test]
fn labels_of_any_content_stay_in_their_place() {
    let mut writer = TextWriter::default();
    let labels = vec![("worker", "a\"b\\c\nd".to_owned()), ("role", "decode".to_owned())];
    writer.metric(&catalogue::WORKER_DECODING, [(labels, 3.0)]);
    let text = writer.finish();
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("# HELP estafette_worker_decoding_sequences "));
    assert_eq!(lines.next(), Some("# TYPE estafette_worker_decoding_sequences gauge"));
    assert_eq!(
        lines.next(),
        Some(r#"estafette_worker_decoding_sequences{worker="a\"b\\c\nd",role="decode"} 3"#)
    );
    assert_eq!(lines.next(), None);
}

#[test]
fn what_is_recorded_is_rendered_with_its_help() {
    let exporter = Exporter::install().unwrap();
    metrics::counter!(catalogue::RETRIES.name).increment(2);
    metrics::histogram!(catalogue::TTFT_SECONDS.name).record(0.2);
    let text = exporter.render();
    assert!(text.contains("# TYPE estafette_retries_total counter"));
    assert!(text.contains("estafette_retries_total 2"));
    assert!(text.contains("estafette_time_to_first_token_seconds_bucket{le=\"0.25\"} 1"));
    exporter.upkeep();
}
