//! Outputs that cannot be written, or must not be.

mod common;

use std::fs;
use std::process::Command;

use common::Dir;
use testing::files::model;

fn with_model() -> Dir {
    let dir = Dir::new();
    dir.put("in", &model().bytes());
    dir
}

#[test]
fn an_output_that_exists_is_replaced_on_demand_only() {
    let dir = with_model();
    dir.put("out", b"precious");
    dir.fail(&["convert", "in", "out"], &["out: exists already"]);
    dir.succeed(&["convert", "in", "out", "--force"]);
    dir.succeed(&["verify", "in", "out"]);
    assert_eq!(dir.contents().len(), 2);
    // A failure leaves what was there.
    dir.put("bad", b"bad");
    dir.fail(&["convert", "bad", "out", "--force"], &["bad"]);
}

#[test]
fn places_where_no_file_can_be() {
    let dir = with_model();
    fs::create_dir(dir.path("folder")).unwrap();
    for force in [&[][..], &["--force"]] {
        let fail =
            |out, words: &[&str]| dir.fail(&[&["convert", "in", out], force].concat(), words);
        fail("folder", &["folder: is a directory"]);
        fail("nowhere/out", &["nowhere/out", "no directory nowhere"]);
        fail("in/out", &["in/out"]);
        fail("in", &["in: is the input"]);
        fail("./folder/../in", &["is the input"]);
        if cfg!(unix) {
            fail("/dev/full", &["/dev/full: is not a regular file"]);
        }
    }
}

#[cfg(unix)]
#[test]
fn links_to_the_input() {
    let dir = with_model();
    std::os::unix::fs::symlink("in", dir.path("link")).unwrap();
    dir.fail(&["convert", "in", "link", "--force"], &["link: is the input"]);
    dir.fail(&["convert", "link", "in", "--force"], &["in: is the input"]);
    std::os::unix::fs::symlink("nothing", dir.path("dangling")).unwrap();
    dir.fail(&["convert", "in", "dangling"], &["dangling: exists already"]);
}

#[cfg(unix)]
#[test]
fn no_room_for_the_output() {
    // A limit on the size of files fails as a full disk does, at any tensor.
    for blocks in [0, 1, 2, 8, 16, 20] {
        let dir = with_model();
        let before = dir.contents();
        let shell = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" convert in out");
        let lutmul = env!("CARGO_BIN_EXE_lutmul");
        let output = dir.command(Command::new("sh").args(["-c", &shell, lutmul]));
        let words = ["out: ", "large"];
        dir.check_failure(&output, &before, &format!("with {blocks} blocks"), &words);
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = with_model();
    let shell = "{ \"$0\" inspect in; echo $? >&2; } | true";
    let output = dir.command(Command::new("sh").args(["-c", shell, env!("CARGO_BIN_EXE_lutmul")]));
    assert_eq!(common::text(&output.stderr), "0\n");
}

#[cfg(target_os = "linux")]
#[test]
fn no_room_for_what_is_printed() {
    let dir = with_model();
    let shell = "exec \"$0\" inspect in > /dev/full";
    let output = dir.command(Command::new("sh").args(["-c", shell, env!("CARGO_BIN_EXE_lutmul")]));
    let before = dir.contents();
    dir.check_failure(&output, &before, "inspect", &["standard output: ", "space"]);
}

#[cfg(unix)]
#[test]
fn the_output_is_a_file_like_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let dir = with_model();
    dir.succeed(&["convert", "in", "out"]);
    let mode = |name| fs::metadata(dir.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("in"), "the umask decides, not the temporary file");
}

#[test]
fn usage() {
    let dir = with_model();
    for args in [
        &["convert", "in"][..],
        &["convert", "in", "out", "--format", "int4"],
        &["convert", "in", "out", "--format", "table:"],
        &["convert", "in", "out", "--scales", "block:0x1"],
        &["frobnicate"],
        &[],
    ] {
        let output = dir.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(dir.contents().len(), 1);
}
