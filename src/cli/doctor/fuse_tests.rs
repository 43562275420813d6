use super::*;

#[test]
fn the_settings_of_fusermount() {
    let c = parse_conf("# user_allow_other\nmount_max = 7 # few\n");
    assert_eq!((c.allow_other, c.mount_max), (false, 7));
    let c = parse_conf("  user_allow_other  \n#mount_max = 7\n");
    assert_eq!((c.allow_other, c.mount_max), (true, MOUNT_MAX));
    let c = parse_conf("user_allow_others\nmount_max=x\n");
    assert_eq!((c.allow_other, c.mount_max), (false, MOUNT_MAX));
}
