//! `image push` and `image pull` against Debian's docker-registry and skopeo.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::images;
use crate::support::archives::noise;
use crate::support::docker_registry::{DockerRegistry, Door, PASSWORD, TokenServer, USER};
use crate::support::images::{INDEX, Image, MANIFEST, descriptor, digest, expect, layout_of, put};
use crate::support::sandbox::{Invocation, Sandbox, TASK_A};
use crate::support::skip::have_programs;

/// More than what is sent whole.
const LARGE: usize = 34 << 20;

fn push<'a>(sandbox: &'a Sandbox, layout: impl AsRef<Path>, image: &str) -> Invocation<'a> {
    let run = sandbox.binary().args(["image", "push"]);
    anonymous(run.args([layout.as_ref()]).args([image]), sandbox)
}

fn pull<'a>(sandbox: &'a Sandbox, image: &str, output: &str) -> Invocation<'a> {
    let run = sandbox.binary().args(["image", "pull", image, "--output"]);
    anonymous(run.args([sandbox.path(output)]), sandbox)
}

/// Whatever this machine's user is logged in to, the program is not.
fn anonymous<'a>(run: Invocation<'a>, sandbox: &Sandbox) -> Invocation<'a> {
    run.env("HOME", sandbox.path("home"))
        .env_remove("DOCKER_CONFIG")
}

/// Writes Docker's file of credentials.
fn log_in(sandbox: &Sandbox, host: &str, password: &str) {
    let auth = BASE64_STANDARD.encode(format!("{USER}:{password}"));
    let config = json!({"auths": {host: {"auth": auth}}});
    sandbox.write("home/.docker/config.json", config.to_string());
}

#[test]
fn an_image_goes_there_and_comes_back() {
    let Some(registry) = DockerRegistry::start("an_image_goes_there_and_comes_back", &Door::Open)
    else {
        return;
    };
    let sandbox = Sandbox::new();
    let image = Image::of(&[
        noise(LARGE, 1),
        noise(1000, 2),
        b"x".to_vec(),
        noise(1000, 2),
    ]);
    let layout = image.layout(&sandbox, "layout");
    let outcome = push(&sandbox, &layout, &registry.image("a/b:1")).run();
    expect(outcome, &image).expect_stderr(&["4 blobs sent (", "0 mounted, 0 were there"]);
    assert_eq!(
        sandbox.read("layout/index.json"),
        fs::read(layout.join("index.json")).unwrap()
    );

    let outcome = pull(&sandbox, &registry.image("a/b:1"), "back").run();
    expect(outcome, &image).expect_stderr(&["as `1`: 4 blobs fetched, 0 were there"]);
    image.assert_in(&sandbox.path("back"), "1");

    // Nothing goes twice.
    let stored = registry.stored();
    let outcome = push(&sandbox, &layout, &registry.image("a/b:2")).run();
    expect(outcome, &image).expect_stderr(&["0 blobs sent (0 B), 0 mounted, 4 were there"]);
    let mount = ["--mount-from", "none/such", "--mount-from", "a/b"];
    let outcome = push(&sandbox, &layout, &registry.image("c"))
        .args(mount)
        .run();
    expect(outcome, &image).expect_stderr(&["0 blobs sent (0 B), 4 mounted, 0 were there"]);
    assert_eq!(registry.stored(), stored);
    let by_digest = registry.image(&format!("c@{}", image.digest()));
    let outcome = pull(&sandbox, &by_digest, "back")
        .args(["--tag", "other"])
        .run();
    expect(outcome, &image).expect_stderr(&["as `other`: 0 blobs fetched, 4 were there"]);
    image.assert_in(&sandbox.path("back"), "other");

    // What is damaged is fetched again.
    let damaged = sandbox
        .path("back")
        .join("blobs/sha256")
        .join(&digest(b"x")[7..]);
    fs::write(&damaged, "y").unwrap();
    let outcome = pull(&sandbox, &registry.image("c"), "back").run();
    expect(outcome, &image).expect_stderr(&["as `latest`: 1 blobs fetched, 3 were there"]);
    image.assert_in(&sandbox.path("back"), "latest");
}

#[test]
fn a_layout_in_a_tar_is_pushed_from_where_it_is() {
    let Some(registry) =
        DockerRegistry::start("a_layout_in_a_tar_is_pushed_from_where_it_is", &Door::Open)
    else {
        return;
    };
    let sandbox = Sandbox::new();
    let image = Image::of(&[noise(LARGE, 3), noise(70_000, 4)]);
    let layout = image.layout(&sandbox, "layout");
    let mut tar = tar::Builder::new(fs::File::create(sandbox.path("layout.tar")).unwrap());
    tar.append_dir_all("", &layout).unwrap();
    tar.finish().unwrap();
    let outcome = push(&sandbox, sandbox.path("layout.tar"), &registry.image("a:1")).run();
    expect(outcome, &image).expect_stderr(&["3 blobs sent ("]);
    expect(pull(&sandbox, &registry.image("a:1"), "back").run(), &image);
    image.assert_in(&sandbox.path("back"), "1");
}

/// A layout with an index of two images, and what they are for.
fn of_two_platforms(sandbox: &Sandbox) -> ([(&'static str, Image); 2], Vec<u8>, PathBuf) {
    let images = ["s390x", "riscv64"].map(|name| {
        let layers = [b"common".to_vec(), name.as_bytes().to_vec()];
        (name, Image::for_architecture(name, &layers))
    });
    let mut entries = Vec::new();
    for (architecture, image) in &images {
        for blob in image.blobs().chain([&image.manifest]) {
            put(sandbox, "layout", blob);
        }
        let mut entry = descriptor(MANIFEST, &image.manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = index.to_string().into_bytes();
    let layout = layout_of(sandbox, "layout", INDEX, &index);
    (images, index, layout)
}

#[test]
fn images_of_several_platforms_are_chosen_from_or_taken_whole() {
    let test = "images_of_several_platforms_are_chosen_from_or_taken_whole";
    let Some(registry) = DockerRegistry::start(test, &Door::Open) else {
        return;
    };
    let sandbox = Sandbox::new();
    let (images, index, layout) = of_two_platforms(&sandbox);
    let name = registry.image("multi:1");
    let outcome = push(&sandbox, &layout, &name).run();
    assert_eq!(
        outcome.stdout,
        format!("{}\n", digest(&index)),
        "{outcome:?}"
    );

    for (architecture, image) in &images {
        let platform = format!("linux/{architecture}");
        let run = pull(&sandbox, &name, architecture);
        expect(run.args(["--platform", &platform]).run(), image);
        image.assert_in(&sandbox.path(architecture), "1");
    }
    let outcome = pull(&sandbox, &name, "all")
        .args(["--platform", "all"])
        .run();
    assert_eq!(
        outcome.stdout,
        format!("{}\n", digest(&index)),
        "{outcome:?}"
    );
    for (_, image) in &images {
        for blob in image.blobs().chain([&image.manifest, &index]) {
            let path = format!("all/blobs/sha256/{}", &digest(blob)[7..]);
            assert!(sandbox.read(&path) == *blob);
        }
    }
    let one = registry.image(&format!("multi@{}", images[0].1.digest()));
    expect(pull(&sandbox, &one, "one").run(), &images[0].1).expect_stderr(&[
        "is for linux/s390x, not for linux/",
        ", and there is no other",
    ]);
    pull(&sandbox, &name, "none")
        .args(["--platform", "linux/arm/v7"])
        .run()
        .expect_code(2)
        .expect_stderr(&[
            "has no image for linux/arm/v7",
            "hint: it has linux/s390x, linux/riscv64; choose with --platform",
        ]);
    assert!(!sandbox.path("none").exists());
}

#[test]
fn names_and_passwords_open_the_door() {
    let Some(registry) =
        DockerRegistry::start("names_and_passwords_open_the_door", &Door::Password)
    else {
        return;
    };
    let sandbox = Sandbox::new();
    let image = Image::of(&[noise(LARGE, 5), b"small".to_vec()]);
    let layout = image.layout(&sandbox, "layout");
    let (host, name) = (registry.host(), registry.image("a/b:1"));
    push(&sandbox, &layout, &name)
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "answered 401 Unauthorized",
            &format!("hint: {host} was asked without credentials: `docker login {host}`"),
        ]);
    log_in(&sandbox, &host, "wr0ng-w0rd");
    push(&sandbox, &layout, &name)
        .run()
        .expect_code(3)
        .expect_stderr(&[&format!("hint: the credentials for {host} are wrong")])
        .expect_not_in_stderr(&["wr0ng-w0rd", "Basic"]);

    log_in(&sandbox, &host, PASSWORD);
    expect(push(&sandbox, &layout, &name).run(), &image).expect_not_in_stderr(&["s3cret"]);
    expect(pull(&sandbox, &name, "back").run(), &image);
    image.assert_in(&sandbox.path("back"), "1");

    // The same from Podman's file.
    let config = sandbox.read("home/.docker/config.json");
    fs::remove_dir_all(sandbox.path("home/.docker")).unwrap();
    pull(&sandbox, &name, "back").run().expect_code(3);
    sandbox.write("run/containers/auth.json", config);
    let run = pull(&sandbox, &name, "podman").env("XDG_RUNTIME_DIR", sandbox.path("run"));
    expect(run.run(), &image);
}

#[test]
fn helpers_are_asked_for_passwords() {
    let test = "helpers_are_asked_for_passwords";
    let Some(registry) = DockerRegistry::start(test, &Door::Password) else {
        return;
    };
    let sandbox = Sandbox::new();
    let image = Image::of(&[b"layer".to_vec()]);
    let layout = image.layout(&sandbox, "layout");
    let (host, name) = (registry.host(), registry.image("a/b:1"));
    log_in(&sandbox, &host, PASSWORD);
    expect(push(&sandbox, &layout, &name).run(), &image);
    helper(
        &sandbox,
        &format!("echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'"),
    );
    let with_helper = |output| {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", sandbox.path("bin").display());
        pull(&sandbox, &name, output).env("PATH", path)
    };
    for config in [
        json!({"credHelpers": {&host: "test"}}),
        json!({"credsStore": "test"}),
    ] {
        sandbox.write("home/.docker/config.json", config.to_string());
        expect(with_helper("helped").run(), &image);
        assert_eq!(sandbox.read("asked"), host.as_bytes());
    }
    helper(
        &sandbox,
        "echo 'credentials not found in native keychain'; exit 1",
    );
    with_helper("none")
        .run()
        .expect_code(3)
        .expect_stderr(&["was asked without credentials"]);
    helper(&sandbox, "echo 'the keychain is locked'; exit 1");
    with_helper("none").run().expect_code(2).expect_stderr(&[
        "the credential helper `docker-credential-test` fails: the keychain is locked",
    ]);
    helper(&sandbox, "echo '{\"Secret\": \"s3cret\"'");
    with_helper("none")
        .run()
        .expect_code(2)
        .expect_stderr(&["its answer is not what helpers answer"])
        .expect_not_in_stderr(&["s3cret"]);
    fs::remove_dir_all(sandbox.path("bin")).unwrap();
    with_helper("none").run().expect_code(2).expect_stderr(&[
        "the credential helper `docker-credential-test` cannot be found",
        "hint: install it, or remove its name",
    ]);
    assert!(!sandbox.path("none").exists());
}

/// Makes a credential helper that keeps what it is asked, and then does this.
fn helper(sandbox: &Sandbox, then: &str) {
    let asked = sandbox.path("asked");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = get ] || exit 9\ncat >'{}'\n{then}\n",
        asked.display()
    );
    let path = sandbox.write("bin/docker-credential-test", script);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

#[test]
fn tokens_open_the_door() {
    let tokens = TokenServer::start(300);
    let Some(registry) = DockerRegistry::start("tokens_open_the_door", &Door::Tokens(&tokens))
    else {
        return;
    };
    let sandbox = Sandbox::new();
    let image = Image::of(&[noise(LARGE, 6), b"one".to_vec(), b"two".to_vec()]);
    let layout = image.layout(&sandbox, "layout");
    let (host, name) = (registry.host(), registry.image("public/b:1"));
    push(&sandbox, &layout, &name)
        .run()
        .expect_code(3)
        .expect_stderr(&[&format!("hint: {host} was asked without credentials")]);
    log_in(&sandbox, &host, PASSWORD);
    let before = tokens.scopes().len();
    let outcome = push(&sandbox, &layout, &name).run();
    let outcome = expect(outcome, &image).expect_not_in_stderr(&["s3cret", "Bearer", "eyJ"]);
    // However many ask at the same time.
    assert_eq!(
        tokens.scopes()[before..],
        [["repository:public/b:pull,push"]],
        "{outcome:?}"
    );

    // A mount is allowed by one token for both.
    let mount = ["--mount-from", "public/b"];
    let outcome = push(&sandbox, &layout, &registry.image("other"))
        .args(mount)
        .run();
    let outcome = expect(outcome, &image).expect_stderr(&["4 mounted"]);
    let both = ["repository:other:pull,push", "repository:public/b:pull"];
    assert!(
        tokens.scopes().iter().any(|asked| *asked == both),
        "{outcome:?}"
    );

    // The public may read, but not everything.
    fs::remove_dir_all(sandbox.path("home")).unwrap();
    expect(pull(&sandbox, &name, "back").run(), &image);
    image.assert_in(&sandbox.path("back"), "1");
    pull(&sandbox, &registry.image("other"), "none")
        .run()
        .expect_code(3)
        .expect_stderr(&["was asked without credentials"]);

    // Who has a token for tokens needs no password.
    let config = json!({"auths": {&host: {"identitytoken": PASSWORD}}});
    sandbox.write("home/.docker/config.json", config.to_string());
    expect(
        pull(&sandbox, &registry.image("other"), "other").run(),
        &image,
    );
    let asked = tokens.server.requests();
    let last = asked.last().expect("a request");
    assert_eq!(
        (last.method.as_str(), last.header("authorization")),
        ("POST", None)
    );

    log_in(&sandbox, &host, "wr0ng-w0rd");
    pull(&sandbox, &name, "none")
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "answered 401 Unauthorized: UNAUTHORIZED: wrong password",
            "are wrong",
        ])
        .expect_not_in_stderr(&["wr0ng-w0rd"]);
}

#[test]
fn skopeo_understands_what_is_pushed_and_is_understood() {
    let test = "skopeo_understands_what_is_pushed_and_is_understood";
    if !have_programs(test, &["skopeo"]) {
        return;
    }
    let Some(registry) = DockerRegistry::start(test, &Door::Password) else {
        return;
    };
    let sandbox = Sandbox::new();
    log_in(&sandbox, &registry.host(), PASSWORD);
    let image = Image::real(&noise(100_000, 7));
    let layout = image.layout(&sandbox, "layout");
    let skopeo = |args: &[&str]| {
        let credentials = sandbox.path("home/.docker/config.json");
        let run = sandbox
            .program("skopeo")
            .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
            .args(["--dest-tls-verify=false"])
            .args(args)
            .env("HOME", sandbox.path("home"))
            .env("REGISTRY_AUTH_FILE", credentials);
        let outcome = run.run();
        assert!(outcome.status.success(), "{outcome:?}");
    };
    let docker = |name: &str| format!("docker://{}", registry.image(name));
    let oci = |name: &str| format!("oci:{}:latest", sandbox.path(name).display());

    expect(
        push(&sandbox, &layout, &registry.image("ours")).run(),
        &image,
    );
    skopeo(&["--preserve-digests", &docker("ours"), &oci("theirs")]);
    image.assert_in(&sandbox.path("theirs"), "latest");

    skopeo(&["--preserve-digests", &oci("layout"), &docker("skopeo/s:1")]);
    expect(
        pull(&sandbox, &registry.image("skopeo/s:1"), "back").run(),
        &image,
    );
    image.assert_in(&sandbox.path("back"), "1");

    // Docker's own format.
    skopeo(&["--format", "v2s2", &oci("layout"), &docker("v2s2")]);
    let outcome = pull(&sandbox, &registry.image("v2s2"), "docker").run();
    assert!(outcome.status.success(), "{outcome:?}");
    let manifest = format!(
        "docker/blobs/sha256/{}",
        outcome.stdout.trim().trim_start_matches("sha256:")
    );
    let manifest = String::from_utf8(sandbox.read(&manifest)).unwrap();
    assert!(
        manifest.contains("application/vnd.docker.distribution.manifest.v2+json"),
        "{manifest}"
    );
    let again = push(&sandbox, sandbox.path("docker"), &registry.image("again")).run();
    assert_eq!(again.stdout, outcome.stdout, "{again:?}");
    skopeo(&[&docker("again"), &oci("from-docker")]);
}

#[test]
fn an_exported_image_and_its_cache_are_pushed() {
    let test = "an_exported_image_and_its_cache_are_pushed";
    let Some(registry) = DockerRegistry::start(test, &Door::Password) else {
        return;
    };
    let sandbox = Sandbox::new();
    log_in(&sandbox, &registry.host(), PASSWORD);
    sandbox.write(
        &format!("store/task/{TASK_A}/artifacts/public/plain.txt"),
        noise(5000, 10),
    );
    let fetches = json!([{"task": TASK_A, "artifact": "public/plain.txt"}]);
    sandbox.write("fetches.json", fetches.to_string());
    let export = |output: &str, cache: &str| {
        let run = images::export(&sandbox, &["--output", output, "--cache-to", cache]);
        anonymous(run, &sandbox).run()
    };
    let exported = export("image", "cache");
    assert!(exported.status.success(), "{exported:?}");
    let cache = registry.image("x/cache:1");
    let again = export("image.tar", &format!("docker://{cache}"));
    assert_eq!(again.stdout, exported.stdout);
    again.expect_stderr(&[&format!("pushed {cache} in")]);
    let digest_in = |layout: &str| {
        let index = sandbox.read(&format!("{layout}/index.json"));
        let index: Value = serde_json::from_slice(&index).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    };
    let outcome = pull(&sandbox, &cache, "back").run();
    assert_eq!(outcome.stdout.trim(), digest_in("cache"), "{outcome:?}");
    let outcome = push(
        &sandbox,
        sandbox.path("image.tar"),
        &registry.image("x/image"),
    )
    .run();
    assert_eq!(outcome.stdout.trim(), digest_in("image"), "{outcome:?}");
    export("bad", "docker://A/B/C")
        .expect_code(2)
        .expect_stderr(&["`A/B/C` is not the name of an image"]);
    assert!(!sandbox.path("bad").exists());
}

#[test]
fn a_layout_that_is_not_what_it_says_is_not_pushed() {
    let test = "a_layout_that_is_not_what_it_says_is_not_pushed";
    let Some(registry) = DockerRegistry::start(test, &Door::Open) else {
        return;
    };
    for (size, layer) in [(1000, "small"), (LARGE, "large")] {
        let sandbox = Sandbox::new();
        let image = Image::of(&[noise(size, 8)]);
        let layout = image.layout(&sandbox, "layout");
        let name = registry.image(layer);
        let blob = layout
            .join("blobs/sha256")
            .join(&digest(&image.layers[0])[7..]);
        fs::write(&blob, noise(size, 9)).unwrap();
        push(&sandbox, &layout, &name)
            .run()
            .expect_code(4)
            .expect_stderr(&["has the digest sha256:", &digest(&image.layers[0])]);
        fs::write(&blob, noise(size - 1, 8)).unwrap();
        push(&sandbox, &layout, &name)
            .run()
            .expect_code(4)
            .expect_stderr(&[&format!("has {} bytes, expected {size}", size - 1)]);
        fs::remove_file(&blob).unwrap();
        push(&sandbox, &layout, &name).run().expect_code(6);
        pull(&sandbox, &name, "none")
            .run()
            .expect_code(3)
            .expect_stderr(&["MANIFEST_UNKNOWN", "hint: check the name"]);
    }
}
