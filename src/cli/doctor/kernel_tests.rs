use super::parse;

#[test]
fn versions() {
    assert_eq!(parse("6.18.0-rc1+"), Some((6, 18)));
    assert_eq!(parse("5.10.0-28-amd64"), Some((5, 10)));
    assert_eq!(parse("4.4"), Some((4, 4)));
    assert_eq!(parse("x"), None);
    assert_eq!(parse(""), None);
    assert_eq!(parse("99999999999.1"), None);
}
