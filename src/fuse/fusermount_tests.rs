use super::*;

#[test]
fn refusals_say_what_to_do() {
    let told = |words: &str| explain(Path::new("/mnt"), words).to_string();
    assert!(
        told("option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf")
            .contains("root can allow")
    );
    assert!(
        told("too many FUSE filesystems mounted; mount_max=N can be set in /etc/fuse.conf")
            .contains("mount_max")
    );
    assert!(told("user has no write access to mountpoint /mnt").contains("of your own"));
    assert!(told("").contains("without a word"));
}

#[test]
fn a_stream_that_ends_carries_nothing() {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    drop(theirs);
    assert!(receive(&ours).unwrap().is_none());
}
