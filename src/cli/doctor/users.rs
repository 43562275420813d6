//! Namespaces, ids and runtimes: what `cowfs run` needs, above all for ordinary users.

use super::Check;
use crate::cli::run::idmap::{IdMap, program};
use crate::cli::run::{runtime, try_mount};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn number(file: &str) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// What the machine's settings say of user namespaces. Whether they work is tried by `running`.
pub fn namespaces() -> Vec<Check> {
    let mut checks = vec![];
    let name = "user namespaces";
    if !Path::new("/proc/self/ns/user").exists() {
        checks.push(Check::fail(
            name,
            "the kernel has none (CONFIG_USER_NS)",
            "'cowfs run' works for root only; use another kernel",
        ));
        return checks;
    }
    checks.push(match number("/proc/sys/user/max_user_namespaces") {
        Some(0) => Check::fail(
            name,
            "forbidden: user.max_user_namespaces is 0",
            "as root: 'sysctl user.max_user_namespaces=15000', and a line in /etc/sysctl.d/",
        ),
        Some(n) => Check::ok(name, format!("allowed, {n} at most")),
        None => Check::ok(name, "the kernel has them"),
    });
    // Of Debian's and of Ubuntu's kernels.
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        checks.push(Check::fail(
            "unprivileged_userns_clone",
            "kernel.unprivileged_userns_clone is 0: for root only",
            "as root: 'sysctl kernel.unprivileged_userns_clone=1', and a line in /etc/sysctl.d/",
        ));
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        checks.push(Check::warn(
            "AppArmor",
            "kernel.apparmor_restrict_unprivileged_userns is 1: only programs with a profile may use user namespaces",
            "as root: a profile for cowfs with the line 'userns,' in /etc/apparmor.d/, or 'sysctl kernel.apparmor_restrict_unprivileged_userns=0'",
        ));
    }
    checks
}

/// Ids of this user besides its own.
pub fn ids(root: bool) -> Check {
    let name = "subuid, subgid";
    let map = IdMap::of_caller();
    if root {
        return Check::ok(name, "root has all ids");
    }
    if let Some(why) = &map.warning {
        let (found, advice) = why
            .split_once("; ")
            .unwrap_or((why, "as root: 'apt install uidmap'"));
        return Check::warn(name, found, advice);
    }
    let count: u64 = map.subuids.iter().map(|r| u64::from(r.count)).sum();
    let groups: u64 = map.subgids.iter().map(|r| u64::from(r.count)).sum();
    for p in ["newuidmap", "newgidmap"] {
        let Some(path) = program(p) else { continue };
        // Set-uid, or with the capability in the file.
        let privileged =
            path.metadata().is_ok_and(|m| m.mode() & 0o6000 != 0) || has_capability(&path);
        if !privileged {
            let shown = path.display();
            return Check::warn(
                name,
                format!(
                    "{shown} is neither set-uid nor has it file capabilities: only user 0 exists in containers"
                ),
                format!("as root: 'chmod u+s {shown}'"),
            );
        }
    }
    if count.min(groups) < 65535 {
        return Check::warn(
            name,
            format!(
                "only {count} users and {groups} groups besides one's own: files of others look like nobody's"
            ),
            "as root: 65536 of each in /etc/subuid and /etc/subgid ('usermod --add-subuids', '--add-subgids')",
        );
    }
    Check::ok(
        name,
        format!("{count} users and {groups} groups besides one's own, by newuidmap and newgidmap"),
    )
}

fn has_capability(path: &Path) -> bool {
    let mut value = [0u8; 64];
    rustix::fs::getxattr(path, c"security.capability", &mut value).is_ok_and(|n| n > 0)
}

/// Makes the namespaces, maps the ids and mounts in them, as `cowfs run` does. Answers whether it works.
pub fn running(checks: &mut Vec<Check>) -> bool {
    let name = "containers";
    match try_mount() {
        Ok(None) => {
            checks.push(Check::ok(name, "namespaces and a mount inside them work"));
            true
        }
        Ok(Some(warning)) => {
            checks.push(Check::warn(
                name,
                format!("namespaces and a mount inside them work, but: {warning}"),
                "see subuid, subgid above",
            ));
            true
        }
        Err(e) => {
            checks.push(Check::fail(
                name,
                e,
                "see /dev/fuse and user namespaces above; in a container, the outer one's filters may forbid it (--security-opt seccomp=unconfined)",
            ));
            false
        }
    }
}

pub fn runtimes() -> Check {
    let name = "crun, runc";
    let mut works = vec![];
    let mut not = vec![];
    for r in runtime::installed() {
        match runtime::tried(&r) {
            Ok(()) => works.push(r.path.display().to_string()),
            Err(why) => not.push(why),
        }
    }
    match (works.is_empty(), not.is_empty()) {
        (false, _) => Check::ok(
            name,
            format!("{} works and is used by 'cowfs run'", works.join(", ")),
        ),
        (true, true) => Check::ok(
            name,
            "not installed: 'cowfs run' enters containers by itself",
        ),
        (true, false) => Check::ok(
            name,
            format!(
                "does not work here, so 'cowfs run' enters containers by itself ({})",
                not.join("; ")
            ),
        ),
    }
}
