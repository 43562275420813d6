use super::*;

fn without(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    less(a, b, &mut out);
    out
}

#[test]
fn differences_of_ranges() {
    assert_eq!(without(&[], &[(1, 2)]), []);
    assert_eq!(without(&[(1, 2)], &[]), [(1, 2)]);
    assert_eq!(without(&[(5, 10)], &[(5, 10)]), []);
    assert_eq!(without(&[(5, 10)], &[(0, 5), (15, 5)]), [(5, 10)]);
    assert_eq!(
        without(&[(5, 10)], &[(7, 2), (12, 1)]),
        [(5, 2), (9, 3), (13, 2)]
    );
    assert_eq!(
        without(&[(5, 10), (20, 5)], &[(0, 7), (14, 8)]),
        [(7, 7), (22, 3)]
    );
    assert_eq!(without(&[(5, 2), (9, 2)], &[(0, 100)]), []);
}

#[test]
fn neighbours_are_joined() {
    let mut list = Vec::new();
    for (at, n) in [(3, 1), (4, 2), (8, 1)] {
        push(&mut list, at, n);
    }
    assert_eq!(list, [(3, 3), (8, 1)]);
}
