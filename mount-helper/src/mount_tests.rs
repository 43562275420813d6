use super::*;

fn line(word: &str, options: &str) -> String {
    let options = Options::parse(options, false).unwrap();
    let source = Source::parse(word, &options).unwrap();
    let words = command(word, &source, OsStr::new("/mnt"), &options);
    words
        .iter()
        .map(|w| w.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn commands() {
    assert_eq!(
        line("container=web", ""),
        "mount -o fsname=container=web -- web /mnt"
    );
    assert_eq!(
        line(
            "container=web",
            "rw,noexec,nosuid,nodev,user,exec,pool=/srv/pool"
        ),
        "--pool /srv/pool mount -o rw,noexec,nosuid,nodev,noexec,nosuid,nodev,exec,fsname=container=web -- web /mnt"
    );
    assert_eq!(
        line("/srv/pool", "ro,image=debian"),
        "--pool /srv/pool mount -o ro,fsname=/srv/pool -- debian:latest /mnt"
    );
    assert_eq!(
        line("snapshot=web@a", "fsname=mine"),
        "mount -o fsname=mine -- web@a /mnt"
    );
}

#[test]
fn too_few_words() {
    assert_eq!(run(&["x".into()]).unwrap_err().code, 1);
    assert_eq!(run(&["x".into(), "/mnt".into()]).unwrap_err().code, 1);
    assert_eq!(
        run(&[
            "container=a".into(),
            "/mnt".into(),
            "-o".into(),
            "wrong".into()
        ])
        .unwrap_err()
        .line
        .unwrap(),
        "unknown option 'wrong'"
    );
}
