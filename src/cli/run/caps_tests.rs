use super::*;

#[test]
fn the_usual_set_and_changes() {
    // Bits 0 chown, 1 dac_override, 3 fowner, 4 fsetid, 5 kill, 6 setgid, 7 setuid, 8 setpcap, 10 net_bind, 18 chroot, 31 setfcap.
    assert_eq!(Caps::usual().0, 0x8004_05fb);
    let words = |w: &[&str]| w.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    assert_eq!(
        Caps::chosen(&words(&["mknod"]), &words(&["CAP_CHOWN"]))
            .unwrap()
            .0,
        0x8004_05fa | 1 << 27
    );
    assert_eq!(
        Caps::chosen(&words(&["kill"]), &words(&["all"])).unwrap().0,
        1 << 5
    );
    assert_eq!(Caps::chosen(&words(&["ALL"]), &[]).unwrap(), Caps::all());
    assert!(
        Caps::chosen(&words(&["fly"]), &[])
            .unwrap_err()
            .to_string()
            .contains("'fly'")
    );
    assert_eq!(Caps(1 << 27 | 1).names(), ["CAP_CHOWN", "CAP_MKNOD"]);
}
