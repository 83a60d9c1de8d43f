use super::*;

fn shell<'a>(name: &'a str, script: &str, folder: &Path) -> Start<'a> {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Start { name, command, log: folder.join(format!("{name}.log")) }
}

#[tokio::test]
async fn a_death_is_told_with_its_status_and_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut children = Children::default();
    children.start(shell("reviews-v1", "echo out of coffee >&2; exit 7", folder.path())).unwrap();
    let exit = children.next_exit().await;
    assert_eq!(exit.name, "reviews-v1");
    assert!(exit.status.contains('7'), "{}", exit.status);
    assert_eq!(exit.last_words, "out of coffee");
}

#[tokio::test]
async fn stop_ends_the_meant_children_even_those_that_ignore_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let mut children = Children::default();
    let ready = folder.path().join("ready");
    let stubborn = format!("trap '' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
    children.start(shell("stubborn", &stubborn, folder.path())).unwrap();
    children.start(shell("gentle", "exec sleep 600", folder.path())).unwrap();
    children.start(shell("bystander", "exec sleep 600", folder.path())).unwrap();
    while !ready.exists() {
        tokio::task::yield_now().await;
    }
    children.stop(Some(&["stubborn", "gentle"]), Duration::from_millis(100)).await;
    let left: Vec<&str> = children.running.iter().map(|child| child.name.as_str()).collect();
    assert_eq!(left, ["bystander"]);
    children.stop(None, Duration::from_secs(5)).await;
    assert!(children.running.is_empty());
}

#[test]
fn only_the_end_of_a_long_log_is_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("long.log");
    std::fs::write(&log, format!("{}the end", "x".repeat(5_000))).unwrap();
    let quoted = last_words(&log);
    assert!(quoted.ends_with("the end") && quoted.len() as u64 == QUOTED_BYTES, "{quoted}");
}
