use super::*;

fn parse(word: &str, options: &str) -> Result<(String, Option<String>), String> {
    let options = Options::parse(options, false).unwrap();
    Source::parse(word, &options)
        .map(|s| (s.name, s.pool))
        .map_err(|e| e.line.unwrap())
}

#[test]
fn volumes_and_pools() {
    let ok = |w, o| parse(w, o).unwrap();
    assert_eq!(ok("container=web", ""), ("web".into(), None));
    assert_eq!(
        ok("container=web", "pool=/p"),
        ("web".into(), Some("/p".into()))
    );
    assert_eq!(ok("image=debian", ""), ("debian:latest".into(), None));
    assert_eq!(
        ok("image=host:5000/debian", ""),
        ("host:5000/debian:latest".into(), None)
    );
    assert_eq!(ok("image=debian:12", ""), ("debian:12".into(), None));
    assert_eq!(ok("snapshot=web@one", ""), ("web@one".into(), None));
    assert_eq!(ok("/p", "container=web"), ("web".into(), Some("/p".into())));
    assert_eq!(
        ok("/p", "snapshot=web@one,pool=/p"),
        ("web@one".into(), Some("/p".into()))
    );
}

#[test]
fn what_makes_no_sense_is_said() {
    let wrong = |w, o| parse(w, o).unwrap_err();
    assert!(wrong("/p", "").contains("which volume"));
    assert!(wrong("web", "").contains("'web'"));
    assert!(wrong("LABEL=x", "").contains("LABEL=x"));
    assert!(wrong("/p", "pool=/q,container=web").contains("both"));
    assert!(wrong("container=a", "container=b").contains("both"));
    assert!(wrong("container=a@b", "").contains("no container"));
    assert!(wrong("container=debian:12", "").contains("no container"));
    assert!(wrong("snapshot=web", "").contains("NAME@SNAP"));
    assert!(wrong("image=a@b", "").contains("no image"));
    assert!(wrong("container=", "").contains("''"));
}
