//! The command line as a person meets it. (Having this test also makes `cargo test` build the binary that the
//! end-to-end tests start.)

use std::process::{Command, Output};

fn pharos(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pharos")).args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_tells_of_every_command_and_option() {
    let overview = text(&pharos(&["--help"]).stdout);
    assert!(overview.contains("serve") && overview.contains("demo"), "{overview}");
    assert!(!overview.contains(pharos_demo::PROCESS_SUBCOMMAND), "an inner command shows: {overview}");
    let serve = text(&pharos(&["serve", "--help"]).stdout);
    for word in ["--data-dir", "--listen-ui", "PHAROS_RETENTION", "[default: 127.0.0.1:9090]", "Example"] {
        assert!(serve.contains(word), "{word} is not in {serve}");
    }
    assert!(text(&pharos(&["demo", "--help"]).stdout).contains("--rps"));
}

#[test]
fn wrong_usage_and_wrong_settings_end_with_different_codes() {
    let usage = pharos(&["serve", "--listen-ui", "nowhere"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(text(&usage.stderr).contains("nowhere"));

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pharos.yaml");
    std::fs::write(&file, "retention: 3d\nlisten_iu: 127.0.0.1:1\n").expect("a file");
    let settings = pharos(&["serve", "--config", &file.display().to_string()]);
    assert_eq!(settings.status.code(), Some(1));
    let said = text(&settings.stderr);
    for word in ["pharos.yaml", "listen_iu", "line 2"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_moves_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let failed =
        pharos(&["serve", "--data-dir", &folder.path().display().to_string(), "--listen-ui", &address]);
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stderr);
    assert!(said.contains(&address) && said.contains("--listen-ui"), "{said}");
}
