use super::*;

#[test]
fn attitudes_of_a_process() {
    let status = "Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000200\nSigBlk:\t0000000000000201\nSigIgn:\t0000000000080000\nSigCgt:\t0000000180004002\n";
    let of = |signal| attitude_in(status, signal);
    assert_eq!(of(libc::SIGHUP), Attitude::Blocks { pending: false });
    assert_eq!(of(libc::SIGUSR1), Attitude::Blocks { pending: true });
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGTSTP, 33] {
        assert_eq!(of(signal), Attitude::Handles);
    }
    for signal in [libc::SIGQUIT, 0, -1, 99] {
        assert_eq!(of(signal), Attitude::Default);
    }
    assert_eq!(attitude_in("", libc::SIGTERM), Attitude::Default);
}
