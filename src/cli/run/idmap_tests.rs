use super::*;

#[test]
fn ranges_of_a_user_by_name_and_by_number() {
    let text = "# comment\nann:100000:65536\nbob:165536:65536\n1000:300000:10\nann:nonsense:1\nann:1:0\nann:4294967295:2\nann:7\n";
    let range = |first, count| Range { first, count };
    assert_eq!(
        ranges(text, Some("ann"), 1000),
        [range(100000, 65536), range(300000, 10)]
    );
    assert_eq!(ranges(text, Some("bob"), 1001), [range(165536, 65536)]);
    assert_eq!(ranges(text, None, 1000), [range(300000, 10)]);
    assert!(ranges(text, Some("eve"), 5).is_empty());
}

#[test]
fn names_of_users() {
    assert_eq!(user_name(0).as_deref(), Some("root"));
    assert_eq!(user_name(4_000_000_000), None);
}

#[test]
fn where_free_ids_begin() {
    assert_eq!(
        end("a:100000:65536\nb:300000:10\nbroken:x:y\nc:5:1\nd:4294967295:5\n"),
        300010
    );
    assert_eq!(end(""), 0);
    assert!(first_free() >= FIRST);
}
