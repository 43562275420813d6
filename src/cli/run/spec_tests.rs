use super::*;
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Args {
    Line::try_parse_from(["run"].into_iter().chain(line.split_whitespace()))
        .map_err(|e| e.to_string())
        .unwrap()
        .args
}

fn of(line: &str, config: Value) -> Result<Spec> {
    let args = args(line);
    spec(
        &args,
        args.command(),
        Some(&json!({ "config": config })),
        "my_web",
    )
}

fn words(line: &str, config: Value) -> Vec<OsString> {
    of(line, config).unwrap().argv
}

#[test]
fn entrypoint_and_command_as_podman_joins_them() {
    let image = || json!({"Entrypoint": ["/entry", "-x"], "Cmd": ["serve", "all"]});
    assert_eq!(words("i", image()), ["/entry", "-x", "serve", "all"]);
    assert_eq!(words("i ls -l", image()), ["/entry", "-x", "ls", "-l"]);
    assert_eq!(words("i -- ls -l", image()), ["/entry", "-x", "ls", "-l"]);
    assert_eq!(words("--entrypoint /other i", image()), ["/other"]);
    assert_eq!(words("--entrypoint /other i a", image()), ["/other", "a"]);
    assert_eq!(words("--entrypoint= i a", image()), ["a"]);
    assert_eq!(
        words("--entrypoint [\"sh\",\"-c\"] i a", image()),
        ["sh", "-c", "a"]
    );
    assert_eq!(words("i", json!({"Cmd": ["bash"]})), ["bash"]);
    assert_eq!(words("i", json!({})), ["/bin/sh"]);
    assert_eq!(
        words("i", json!({"Cmd": null, "Entrypoint": "not a list"})),
        ["/bin/sh"]
    );
    // Flags after the image are the program's.
    assert_eq!(words("--rm i --rm -e x", json!({})), ["--rm", "-e", "x"]);
    assert_eq!(words("i -c x --", json!({})), ["-c", "x", "--"]);
    assert_eq!(words("i sh -- x", json!({})), ["sh", "--", "x"]);
    assert_eq!(words("-- i -- --", json!({})), ["--"]);
    assert!(
        Line::try_parse_from(["run", "--bogus", "i"]).is_err()
            && Line::try_parse_from(["run", "--rm"]).is_err()
    );
}

#[test]
fn the_environment_in_order_of_precedence() {
    let env = |line: &str| -> Vec<String> {
        let e = of(
            line,
            json!({"Env": ["PATH=/image", "A=1", "=bad", "B=2=3", "NOTHERE"]}),
        )
        .unwrap()
        .env;
        e.into_iter().map(|w| w.into_string().unwrap()).collect()
    };
    let has = |line: &str, word: &str| env(line).iter().any(|w| w == word);
    assert!(
        has("i", "PATH=/image")
            && has("i", "A=1")
            && has("i", "B=2=3")
            && has("i", "container=cowfs")
            && has("i", "HOSTNAME=my-web")
    );
    assert!(has("-e A=5 -e C= i", "A=5") && has("-e A=5 -e C= i", "C="));
    assert!(
        !env("i")
            .iter()
            .any(|w| w.starts_with("HOME=") || w.starts_with('=') || w.starts_with("NOTHERE"))
    );
    assert!(
        has(
            "-e CARGO_MANIFEST_DIR i",
            &format!("CARGO_MANIFEST_DIR={}", env!("CARGO_MANIFEST_DIR"))
        ) || std::env::var_os("CARGO_MANIFEST_DIR").is_none()
    );
    assert!(
        !env("-e SURELY_NOT_SET_XYZ i")
            .iter()
            .any(|w| w.starts_with("SURELY"))
    );
}

#[test]
fn directory_user_and_host_name() {
    let s = of("i", json!({"WorkingDir": "/srv", "User": "ann:video"})).unwrap();
    assert_eq!(
        (s.cwd.to_str(), s.user.as_str(), s.hostname.as_str()),
        (Some("/srv"), "ann:video", "my-web")
    );
    let s = of(
        "-w /x -u 5 --hostname h i",
        json!({"WorkingDir": "/srv", "User": "ann"}),
    )
    .unwrap();
    assert_eq!(
        (s.cwd.to_str(), s.user.as_str(), s.hostname.as_str()),
        (Some("/x"), "5", "h")
    );
    assert_eq!(of("i", json!({})).unwrap().cwd, Path::new("/"));
    assert!(
        of("-w x i", json!({}))
            .unwrap_err()
            .to_string()
            .contains("absolute")
    );
    assert!(of(&format!("--hostname {} i", "x".repeat(65)), json!({})).is_err());
    assert_eq!(hostname("--.."), "cowfs");
    assert_eq!(hostname(&"n".repeat(200)).len(), HOSTNAME_MAX);
}

#[test]
fn the_files_of_the_network() {
    let s = of("--hostname surely-unknown i", json!({})).unwrap();
    let file = |name: &str| {
        String::from_utf8_lossy(&s.files.iter().find(|f| f.0 == name).unwrap().1).into_owned()
    };
    assert_eq!(file("etc/hostname"), "surely-unknown\n");
    assert!(
        file("etc/hosts").ends_with("\n127.0.1.1\tsurely-unknown\n")
            && file("etc/hosts").contains("localhost")
    );
}

#[test]
fn volumes() {
    let v = |words: &str| volume(words).map_err(|e| e.to_string());
    assert_eq!(
        v("/etc:/x"),
        Ok(Volume {
            source: "/etc".into(),
            target: "/x".into(),
            read_only: false
        })
    );
    assert!(v("/etc:/x/y:ro,z").unwrap().read_only);
    assert!(v("etc:/x").unwrap_err().contains("begin with"));
    assert!(v("/etc").unwrap_err().contains("no path in the container"));
    assert!(v("/etc:x").is_err() && v("/etc:/").is_err() && v(":/x").is_err());
    assert!(v("/etc:/x:odd").unwrap_err().contains("'odd'"));
    assert!(
        v("/does/not/exist:/x")
            .unwrap_err()
            .contains("/does/not/exist")
    );
}
