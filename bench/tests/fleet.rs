//! The scenario of several nodes, in small, as a newcomer runs it.

use std::process::{Command, Stdio};

use serde_json::Value as Json;

#[test]
fn a_killed_node_takes_its_share_and_nothing_else_with_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane-bench"))
        .args(["fleet", "--phase", "500ms", "--keys", "4K", "--clients", "4", "--json", "-"])
        .stderr(Stdio::inherit())
        .output()
        .expect("it starts");
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{report:#}");
    let number = |name: &str| report[name].as_f64().expect(name);
    assert!(number("steered_share") >= 0.999);
    // Of 4,000 keys, each in a slot of the killed node with the probability of its share.
    let (lost, due) = (number("lost_share"), number("killed_share"));
    assert!((lost - due).abs() < 0.05, "{lost} of the keys are gone with {due} of the slots");
    let phases = report["phases"].as_array().expect("a list");
    let names: Vec<&str> = phases.iter().map(|row| row["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["before", "killed", "removed", "added"]);
    assert!(phases.iter().all(|row| row["wrong_values"] == 0), "{report:#}");
    assert_eq!(phases[0]["hit_ratio"], 1.0, "{report:#}");
}
