use super::*;

fn node_of(name: &str, uses: &[&str]) -> Node {
    Node {
        name: name.into(),
        uses: uses.iter().map(|&u| u.to_owned()).collect(),
        outside: Vec::new(),
    }
}

#[test]
fn an_upward_edge_and_an_undecided_sideways_edge_are_found() {
    assert!(check_layers(&node_of("engine", &["model", "scheduler"])).is_empty());
    assert!(check_layers(&node_of("scheduler", &["kv-cache"])).is_empty());
    assert_eq!(check_layers(&node_of("model", &["engine"])).len(), 1);
    assert_eq!(check_layers(&node_of("kv-cache", &["scheduler"])).len(), 1);
    assert_eq!(check_layers(&node_of("newcomer", &[])).len(), 1);
}

#[test]
fn a_forbidden_crate_is_found_behind_another() {
    let nodes = [node_of("router", &["worker"]), node_of("worker", &["engine"])];
    assert!(reaches(&nodes, "router", "engine"));
    assert!(!reaches(&nodes, "worker", "router"));
}
