use super::*;

#[test]
fn dispositions_of_a_process() {
    let status = "Name:\tx\nSigPnd:\tffffffffffffffff\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000080000\nSigCgt:\t0000000180004002\n";
    assert!(handles_in(status, libc::SIGHUP));
    assert!(handles_in(status, libc::SIGINT));
    assert!(handles_in(status, libc::SIGTERM));
    assert!(handles_in(status, libc::SIGTSTP));
    assert!(handles_in(status, 33));
    assert!(!handles_in(status, libc::SIGQUIT));
    assert!(!handles_in(status, 0) && !handles_in(status, 99));
    assert!(!handles_in("", libc::SIGTERM));
}
