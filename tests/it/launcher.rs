//! `docker/fetch/fetch-content`, which the Python run-task starts in place of the Python tool.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::sandbox::Sandbox;
use crate::support::server::{Reply, Server};
use crate::support::skip::have_programs;

/// A sandbox with the launcher and the program where the image has them.
fn image() -> Sandbox {
    let sandbox = Sandbox::new();
    let launcher = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/fetch/fetch-content");
    for directory in ["libexec", "bin", "path"] {
        fs::create_dir(sandbox.path(directory)).expect("make a directory");
    }
    fs::copy(launcher, sandbox.path("bin/fetch-content")).expect("copy the launcher");
    let program = env!("CARGO_BIN_EXE_fetch-content");
    symlink(program, sandbox.path("libexec/fetch-content")).expect("link the program");
    symlink("../bin/fetch-content", sandbox.path("path/fetch-content")).expect("link the launcher");
    sandbox
}

#[test]
fn python_starts_the_program_with_the_same_arguments_environment_and_exit_code() {
    if !have_programs("launcher", &["python3"]) {
        return;
    }
    let (sandbox, server) = (image(), Server::start());
    server.serve("/a.txt", Reply::ok("x"));
    let url = server.url("/a.txt");
    let fetch = |sha256: &str| {
        sandbox
            .program("python3")
            .args(["-u", "path/fetch-content", "static-url", "--size", "1"])
            .args(["--sha256", sha256, &url, "a b.txt"])
            .env("FETCH_CONTENT_ATTEMPTS", "1")
            .run()
    };
    fetch("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881").expect_code(0);
    assert_eq!(sandbox.read("a b.txt"), b"x");
    fetch(&"0".repeat(64)).expect_code(4);
}
