use super::*;
use crate::experiment::tests::report;

#[test]
fn the_page_stands_alone_and_holds_every_figure() {
    let mut report = report();
    report.trace = "<script>alert(1)</script>".into();
    let page = html(&report);
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), METRICS.len());
    assert_eq!(page.matches("</svg>").count(), METRICS.len());
    assert_eq!(page.matches("<polyline").count(), METRICS.len() * 2, "a line for each policy");
    assert_eq!(page.matches("<tr class=\"ours\">").count(), 2, "a row at each load");
    assert!(!page.contains("NaN") && !page.contains("inf"), "every place is a number");
}

#[test]
fn one_load_is_shown_as_bars() {
    let mut report = report();
    report.cells.truncate(2);
    let page = html(&report);
    assert!(!page.contains("<polyline") && page.contains("<rect"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
}
