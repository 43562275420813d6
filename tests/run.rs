//! `cowfs run`, with real mounts, as root and as ordinary users.

mod boxes;
mod common;

use boxes::{LONE, Pool, Setup, USER, setup, sh, text};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = r#"{"Env":["PATH=/bin","COLOUR=blue"],"WorkingDir":"/srv/made/by/us","Cmd":["sh","-c","echo from the image; id -u"],"User":"ann"}"#;

fn with_pool(user: Option<&'static str>, config: &str, test: impl FnOnce(&Setup, &Pool)) {
    if let Some(setup) = setup() {
        test(setup, &Pool::new(setup, user, config));
    }
}

/// Ends it should the test not.
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> Running {
        Running(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0u8; 1];
        let out = self.0.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        line
    }

    fn signal(&self, signal: &str) {
        assert!(
            sh(&format!("kill -{signal} {}", self.0.id()))
                .status
                .success()
        );
    }

    fn code(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn state(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .unwrap_or('-')
}

/// Whether the last in a line of only children has this name.
fn runs(mut pid: u32, name: &str) -> bool {
    while let Ok(child) = text(&sh(&format!("pgrep -P {pid}")).stdout).trim().parse() {
        pid = child;
    }
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == name)
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_the_image_says_and_what_the_user_says() {
    with_pool(None, CONFIG, |_, pool| {
        let out = pool.cowfs(["run", "--rm", "bb"]);
        assert_eq!(
            (
                text(&out.stdout).as_str(),
                text(&out.stderr).as_str(),
                out.status.code()
            ),
            ("from the image\n1000\n", "", Some(0))
        );
        let told = pool.run("--rm --name web_1 bb", "id -un; id -G; pwd; stat -c %U .; echo $COLOUR $HOME $container; hostname; cat /etc/hostname", 0);
        assert_eq!(
            told,
            "ann\n1000 29\n/srv/made/by/us\nann\nblue /home/ann cowfs\nweb-1\nweb-1\n"
        );
        let told = pool.run(
            "--rm -u 5:6 -w /tmp/x -e COLOUR=red -e HOME=/h --hostname box bb",
            "id -u; id -g; id -G; pwd; echo $COLOUR $HOME; hostname",
            0,
        );
        assert_eq!(told, "5\n6\n6\n/tmp/x\nred /h\nbox\n");
        assert_eq!(
            text(
                &pool
                    .cowfs([
                        "run",
                        "--rm",
                        "--entrypoint",
                        "echo",
                        "bb",
                        "--",
                        "-n",
                        "a b"
                    ])
                    .stdout
            ),
            "a b"
        );
        assert_eq!(pool.names(), [""; 0]);
    });
}

#[test]
fn exit_codes_are_podmans() {
    with_pool(None, "{}", |_, pool| {
        pool.run("--rm bb", "exit 7", 7);
        let code = |words: &[&str]| {
            let out = pool.cowfs(["run", "--rm"].iter().chain(words));
            let said = text(&out.stderr);
            assert!(said.lines().count() <= 1, "{said}");
            (out.status.code(), said)
        };
        assert_eq!(code(&["bb", "nosuch"]).0, Some(127));
        assert_eq!(code(&["bb", "/no/such"]).0, Some(127));
        assert_eq!(code(&["bb", "/etc/plain"]).0, Some(126));
        assert_eq!(code(&["bb", "/etc"]).0, Some(126));
        for (words, word) in [
            (&["nosuch", "true"][..], "nosuch"),
            (&["./nosuch", "true"], "nosuch"),
            (&["-u", "eve", "bb", "true"], "'eve'"),
            (&["-u", "0:eve", "bb", "true"], "'eve'"),
            (&["-w", "x", "bb", "true"], "absolute"),
            (&["-w", "/etc/plain/x", "bb", "true"], "/etc/plain"),
            (&["--runtime", "nosuch", "bb", "true"], "nosuch"),
            (&["--cap-add", "fly", "bb", "true"], "'fly'"),
            (&["-v", "/nosuch:/x", "bb", "true"], "/nosuch"),
        ] {
            let (code, said) = code(words);
            assert_eq!(code, Some(125), "{words:?}: {said}");
            assert!(
                said.starts_with("cowfs: ") && said.contains(word),
                "{words:?}: {said}"
            );
        }
        // What failed before anything ran leaves nothing, with --rm or without.
        assert_eq!(pool.cowfs(["run", "bb", "nosuch"]).status.code(), Some(127));
        assert_eq!(pool.names(), [""; 0]);
        // Killed by a signal: of process 1's own making only a fatal one counts.
        assert_eq!(
            pool.cowfs(["run", "--rm", "--init", "bb", "sh", "-c", "kill -TERM $$"])
                .status
                .code(),
            Some(128 + 15)
        );
    });
}

#[test]
fn what_was_written_is_there_the_next_time() {
    with_pool(None, "{}", |_, pool| {
        pool.run("--name web bb", "echo one > /srv/file; dd if=/dev/zero of=/srv/big bs=1M count=3 2>/dev/null; rm /etc/plain", 0);
        assert_eq!(
            pool.run(
                "web",
                "cat /srv/file; wc -c < /srv/big; ls /etc/plain 2>/dev/null || echo gone",
                0
            ),
            "one\n3145728\ngone\n"
        );
        let diff = text(&pool.cowfs(["diff", "web"]).stdout);
        for line in ["A /srv/file", "A /srv/big", "D /etc/plain"] {
            assert!(diff.lines().any(|l| l == line), "{diff}");
        }
        // The files of the network are shown, not written.
        pool.run("web", "test -s /etc/hosts && test -s /etc/hostname", 0);
        assert_eq!(text(&pool.cowfs(["cat", "web:/etc/hosts"]).stdout), "");
        let out = pool.cowfs(["run", "--name", "other", "web", "true"]);
        assert_eq!(out.status.code(), Some(125));
        pool.run("--rm web", "true", 0);
        assert_eq!(pool.names(), [""; 0]);
    });
}

#[test]
fn a_path_is_imported_first() {
    with_pool(None, "{}", |_, pool| {
        let out = pool.cowfs([
            "run",
            "--rm",
            &pool.at("image"),
            "sh",
            "-c",
            "cat /etc/plain",
        ]);
        assert_eq!(
            (text(&out.stdout).as_str(), out.status.code()),
            ("text\n", Some(0)),
            "{}",
            text(&out.stderr)
        );
        let line = format!("tar -C {} -cf - . | gzip", pool.at("image"));
        let mut command = pool.command(["run", "--rm", "-", "cat", "/etc/plain"]);
        let mut tar = Command::new("sh")
            .args(["-c", &line])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = command.stdin(tar.stdout.take().unwrap()).output().unwrap();
        assert!(tar.wait().unwrap().success());
        assert_eq!(text(&out.stdout), "text\n", "{}", text(&out.stderr));
    });
}

#[test]
fn namespaces_devices_and_the_kernels_files() {
    with_pool(None, "{}", |_, pool| {
        let told = pool.run(
            "--rm bb",
            "echo $$; ls /dev | tr '\\n' ' '; echo; for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done
             echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls -l /dev/fd /dev/ptmx | sed 's/.*-> //'
             test -s /proc/kcore && echo kcore; echo 1 2>/dev/null > /proc/sys/kernel/hostname && echo writable
             touch /sys/x 2>/dev/null && echo writable; ls /sys/firmware | wc -l; stat -f -c %T /dev/shm /dev/mqueue
             awk '/CapEff|CapBnd/ {print $2}' /proc/self/status; mknod /x c 1 3 2>/dev/null && echo mknod; cat /proc/1/comm; true",
            0,
        );
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines,
            [
                "1",
                "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
                "3",
                "/proc/self/fd",
                "pts/ptmx",
                "0",
                "tmpfs",
                "UNKNOWN",
                "00000000800405fb",
                "00000000800405fb",
                "sh"
            ]
        );
        // All of its own but user and network; nothing of the host's mounts.
        let inside = pool.run("--rm bb", "for n in mnt pid uts ipc net user; do readlink /proc/self/ns/$n; done; grep -c ' / / ' /proc/self/mountinfo", 0);
        for (i, n) in ["mnt", "pid", "uts", "ipc", "net", "user"]
            .iter()
            .enumerate()
        {
            let outside = std::fs::read_link(format!("/proc/self/ns/{n}")).unwrap();
            assert_eq!(inside.lines().nth(i) == outside.to_str(), i > 3, "{n}");
        }
        assert_eq!(inside.lines().last(), Some("1"));
        assert_eq!(
            pool.run(
                "--rm --cap-drop all --cap-add chown bb",
                "awk '/CapEff/ {print $2}' /proc/self/status",
                0
            ),
            "0000000000000001\n"
        );
        assert_eq!(
            pool.run(
                "--rm -u ann --cap-add sys_admin bb",
                "awk '/CapEff|CapPrm|CapAmb/ {print $2}' /proc/self/status | sort -u",
                0
            ),
            "0000000000000000\n"
        );
        assert_eq!(
            pool.run(
                "--rm --read-only bb",
                "touch /x 2>&1; touch /tmp/x 2>&1; touch /dev/shm/x && echo shm",
                0
            )
            .matches("Read-only")
            .count(),
            2
        );
        // No devices but those of /dev, whatever the image brings.
        pool.run(
            "--name dev --cap-add mknod bb",
            "mknod /null c 1 3 && ! echo x 2>/dev/null > /null",
            0,
        );
    });
}

#[test]
fn host_directories_and_files_inside() {
    with_pool(None, "{}", |_, pool| {
        std::fs::create_dir(pool.at("host")).unwrap();
        std::fs::write(pool.at("host/file"), "outside\n").unwrap();
        let (dir, file) = (
            format!("{}:/in/dir", pool.at("host")),
            format!("{}:/in/file:ro", pool.at("host/file")),
        );
        let told = pool.run(&format!("--rm -v {dir} -v {file} bb"), "cat /in/dir/file /in/file; echo new > /in/dir/new; echo x 2>/dev/null > /in/file || echo ro", 0);
        assert_eq!(told, "outside\noutside\nro\n");
        assert_eq!(
            std::fs::read_to_string(pool.at("host/new")).unwrap(),
            "new\n"
        );
        // Even a directory that the start of a container hides.
        let tmp = tempfile::tempdir().unwrap();
        std::fs::write(tmp.path().join("file"), "tmp\n").unwrap();
        assert_eq!(
            pool.run(
                &format!("--rm -v {}:/in bb", tmp.path().display()),
                "cat /in/file",
                0
            ),
            "tmp\n"
        );
        assert_eq!(
            pool.run(
                "--rm -v /tmp:/in bb",
                &format!(
                    "cat /in/{}/file",
                    tmp.path().file_name().unwrap().to_str().unwrap()
                ),
                0
            ),
            "tmp\n"
        );
    });
}

#[test]
fn an_image_cannot_reach_out() {
    with_pool(None, "{}", |_, pool| {
        let victim = pool.at("victim");
        std::fs::write(&victim, "mine\n").unwrap();
        // Links that lead to the host's files stay inside.
        pool.run("--name evil bb", &format!("rm -rf /etc/hosts /etc/hostname; ln -s {victim} /etc/hosts; ln -s ../../../../../../..{victim} /etc/hostname; mkdir -p $(dirname {victim})"), 0);
        pool.run("evil", "true", 0);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine\n");
        pool.run(
            "evil",
            &format!("rm -rf /srv; ln -s {} /srv", pool.at("")),
            0,
        );
        pool.run("-w /srv/new evil", "pwd", 0);
        assert!(!std::path::Path::new(&pool.at("new")).exists());
        // Where the kernel's files go must be a directory.
        for name in ["proc", "dev", "sys"] {
            let box_ = format!("evil-{name}");
            assert!(pool.cowfs(["create", "bb", &box_]).status.success());
            let mnt = pool.at("mnt");
            std::fs::create_dir_all(&mnt).unwrap();
            assert!(pool.cowfs(["mount", &box_, &mnt]).status.success());
            std::os::unix::fs::symlink("/etc", format!("{mnt}/{name}")).unwrap();
            assert!(pool.cowfs(["umount", &mnt]).status.success());
            let out = pool.cowfs(["run", &box_, "true"]);
            assert_eq!(out.status.code(), Some(125));
            assert!(
                text(&out.stderr)
                    .contains(&format!("/{name} in the container must be a directory")),
                "{}",
                text(&out.stderr)
            );
        }
    });
}

#[test]
fn signals_reach_the_program() {
    with_pool(None, "{}", |_, pool| {
        let start = |words: &[&str], line: &str| {
            let mut r = Running::start(
                pool.command(
                    ["run", "--rm"]
                        .iter()
                        .chain(words)
                        .chain(&["bb", "sh", "-c", line]),
                ),
            );
            assert_eq!(r.line(), "ready");
            r
        };
        for signal in [
            "TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "WINCH", "ALRM", "CONT",
        ] {
            let mut r = start(
                &[],
                &format!(
                    "trap 'echo got; exit 42' {signal}; echo ready; while :; do sleep 0.05; done"
                ),
            );
            r.signal(signal);
            assert_eq!((r.line().as_str(), r.code()), ("got", Some(42)), "{signal}");
        }
        // What it does not handle ends it, as it would outside; process 1 or not.
        for words in [&[][..], &["--init"]] {
            for (signal, number) in [("TERM", 15), ("INT", 2), ("USR1", 10)] {
                let mut r = start(words, "echo ready; exec sleep 1000");
                // The shell before it has habits of its own.
                eventually("sleep runs", || runs(r.0.id(), "sleep"));
                r.signal(signal);
                assert_eq!(r.code(), Some(128 + number), "{words:?} {signal}");
            }
        }
        assert_eq!(pool.names(), [""; 0], "--rm happens after signals too");
        // What it ignores does nothing.
        let mut r = start(
            &["--name", "gone"],
            "trap '' TERM; echo ready; exec sleep 1000",
        );
        r.signal("TERM");
        std::thread::sleep(Duration::from_millis(200));
        assert!(r.0.try_wait().unwrap().is_none());
        // Killing the command kills it all.
        r.signal("KILL");
        assert_eq!(r.code(), None);
        eventually("the container's end", || {
            text(&pool.cowfs(["containers"]).stdout)
                .lines()
                .all(|l| !l.contains("mounted"))
        });
        assert_eq!(pool.names(), ["gone"], "nobody was left to remove it");
        pool.run("--rm gone", "true", 0);
        assert_eq!(pool.names(), [""; 0]);
    });
}

#[test]
fn stopping_and_going_on() {
    with_pool(None, "{}", |_, pool| {
        let mut r = Running::start(pool.command([
            "run",
            "--rm",
            "bb",
            "sh",
            "-c",
            "echo ready; read x; echo read $x; exit 5",
        ]));
        assert_eq!(r.line(), "ready");
        let child = || -> u32 {
            text(&sh(&format!("pgrep -P {}", r.0.id())).stdout)
                .trim()
                .parse()
                .unwrap_or(0)
        };
        let pid = child();
        r.signal("TSTP");
        eventually("both stop", || state(r.0.id()) == 'T' && state(pid) == 'T');
        r.signal("CONT");
        eventually("both go on", || state(r.0.id()) != 'T' && state(pid) != 'T');
        r.0.stdin.take().unwrap().write_all(b"word\n").unwrap();
        assert_eq!((r.line().as_str(), r.code()), ("read word", Some(5)));
    });
}

#[test]
fn a_terminal_is_the_callers() {
    with_pool(None, "{}", |_, pool| {
        let line = |words: &str| {
            format!(
                "COWFS_POOL={} COWFS_RUNTIME=none {} run --rm {words}",
                pool.path(),
                pool_bin(pool)
            )
        };
        let script = |inner: &str| {
            text(
                &Command::new("script")
                    .args(["-qec", inner, "/dev/null"])
                    .stdin(Stdio::null())
                    .output()
                    .unwrap()
                    .stdout,
            )
            .replace('\r', "")
        };
        assert_eq!(
            script(&line(
                "bb sh -c 'test -t 0 && test -t 1 && tty && test -c /dev/console && echo yes'"
            )),
            "/dev/console\nyes\n"
        );
        // A shell puts itself in front of the terminal; afterwards the caller is there again.
        let told = script(&format!(
            "{}; read -t 1 x < /dev/tty; echo still $?; ps -o stat= -p $$ | grep -c +",
            line("bb sh -ic 'echo in'")
        ));
        assert!(
            told.contains("in\n") && told.contains("still") && told.ends_with("1\n"),
            "{told}"
        );
    });
}

fn pool_bin(_: &Pool) -> String {
    setup()
        .unwrap()
        .bin
        .join("cowfs")
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn an_ordinary_user_has_all_the_images_ids() {
    with_pool(Some(USER), CONFIG, |_, pool| {
        let told = pool.run(
            "--name web -u root bb",
            "id -u; stat -c %u:%g /bin/busybox; touch /x; chown 1000:29 /x; stat -c %u:%g /x; chmod 4755 /x; stat -c %a /x; su ann -c 'id -u; touch /home/ann/y 2>/dev/null || echo no'; chown ann /home/ann; su ann -c 'touch /home/ann/y; stat -c %U /home/ann/y'",
            0,
        );
        assert_eq!(told, "0\n0:0\n1000:29\n4755\n1000\nno\nann\n");
        // As the image says.
        assert_eq!(
            pool.run("web", "id -un; stat -c %u:%g:%a /x", 0),
            "ann\n1000:29:4755\n"
        );
        assert!(text(&pool.cowfs(["ls", "-l", "web:/x"]).stdout).contains("1000"));
        let out = pool.cowfs(["run", "web", "true"]);
        assert_eq!(text(&out.stderr), "");
        // An id that is not given out.
        let out = pool.cowfs(["run", "-u", "4000000", "web", "true"]);
        assert_eq!(out.status.code(), Some(125));
        assert!(
            text(&out.stderr).contains("/etc/subuid"),
            "{}",
            text(&out.stderr)
        );
    });
}

#[test]
fn a_user_without_ids_is_warned_once() {
    with_pool(Some(LONE), "{}", |_, pool| {
        let out = pool.cowfs([
            "run",
            "--name",
            "web",
            "bb",
            "sh",
            "-c",
            "id -u; touch /x; stat -c %u /x; chown 5 /x 2>/dev/null || echo no",
        ]);
        assert_eq!(
            (text(&out.stdout).as_str(), out.status.code()),
            ("0\n0\nno\n", Some(0)),
            "{}",
            text(&out.stderr)
        );
        let said = text(&out.stderr);
        assert!(
            said.lines().count() == 1
                && said.contains("chown to others cannot work")
                && said.contains("usermod --add-subuids"),
            "{said}"
        );
        let out = pool.cowfs(["run", "-u", "5", "web", "true"]);
        assert_eq!(out.status.code(), Some(125));
        assert!(
            text(&out.stderr).contains("only user 0 exists"),
            "{}",
            text(&out.stderr)
        );
    });
}

#[test]
fn in_use_is_refused_and_named() {
    with_pool(None, "{}", |_, pool| {
        let mut r = Running::start(pool.command([
            "run",
            "--name",
            "web",
            "bb",
            "sh",
            "-c",
            "echo ready; read x",
        ]));
        assert_eq!(r.line(), "ready");
        let out = pool.cowfs(["run", "web", "true"]);
        assert_eq!(out.status.code(), Some(125));
        assert!(
            text(&out.stderr).contains("web is in use at (cowfs run, process "),
            "{}",
            text(&out.stderr)
        );
        drop(r.0.stdin.take());
        assert_eq!(r.code(), Some(1));
        // At once afterwards it is free.
        for _ in 0..5 {
            pool.run("web", "true", 0);
        }
    });
}

#[test]
fn without_dev_fuse_the_way_out_is_told() {
    with_pool(None, "{}", |setup, pool| {
        let run = format!(
            "COWFS_POOL={} {}/cowfs run --runtime none bb true",
            pool.path(),
            setup.bin.display()
        );
        let out = sh(&format!(
            "unshare -m sh -c 'mount -t tmpfs none /dev && {run}'"
        ));
        assert_eq!(out.status.code(), Some(125));
        let said = text(&out.stderr);
        assert!(
            said.lines().count() == 1
                && said.contains("/dev/fuse")
                && said.contains("modprobe fuse"),
            "{said}"
        );
        assert_eq!(pool.names(), [""; 0]);
    });
    with_pool(Some(USER), "{}", |setup, pool| {
        let run = format!(
            "COWFS_POOL={} {}/cowfs run --runtime none bb true",
            pool.path(),
            setup.bin.display()
        );
        let out = sh(&format!(
            "unshare -m sh -c 'cp -a /dev/fuse /run/f; chmod 600 /run/f; mount --bind /run/f /dev/fuse; setpriv --reuid {USER} --regid {USER} --init-groups sh -c \"{run}\"; c=$?; rm -f /run/f; exit $c'"
        ));
        assert_eq!(out.status.code(), Some(125));
        assert!(
            text(&out.stderr).contains("chmod 0666 /dev/fuse"),
            "{}",
            text(&out.stderr)
        );
    });
}

#[test]
fn the_daemons_death_is_an_error_not_a_hang() {
    with_pool(None, "{}", |_, pool| {
        let mut r = Running::start(pool.command([
            "run",
            "--name",
            "web",
            "bb",
            "sh",
            "-c",
            "echo ready; read x; cat /etc/plain",
        ]));
        assert_eq!(r.line(), "ready");
        let stream =
            std::os::unix::net::UnixStream::connect(format!("{}/socket", pool.path())).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        let pid: String = line
            .split("\"pid\":")
            .nth(1)
            .unwrap()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        assert!(sh(&format!("kill -9 {pid}")).status.success());
        r.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_ne!(r.code(), Some(0));
        pool.run("web", "cat /etc/plain", 0);
    });
}

#[test]
fn orphans_end_with_the_program() {
    with_pool(None, "{}", |_, pool| {
        let begun = Instant::now();
        pool.run("--rm bb", "sleep 1000 & sleep 1000 & exit 4", 4);
        pool.run("--rm --init bb", "(sleep 1000 &) ; exit 4", 4);
        assert!(begun.elapsed() < Duration::from_secs(60));
    });
}

#[test]
fn crun_where_it_works() {
    with_pool(Some(USER), CONFIG, |_, pool| {
        // crun refuses some mixtures of control groups; without the newer part it takes this machine's.
        let line = |words: &str| {
            let mut c = pool.command(["run"].into_iter().chain(words.split(' ')));
            let (program, args) = (
                c.get_program().to_owned(),
                c.get_args()
                    .map(|a| a.to_str().unwrap().to_owned())
                    .collect::<Vec<_>>(),
            );
            let quoted: Vec<String> = args.iter().map(|a| format!("'{a}'")).collect();
            c = Command::new("unshare");
            c.args(["-m", "sh", "-c"]).arg(format!(
                "umount /sys/fs/cgroup/unified 2>/dev/null; exec {} {}",
                program.to_str().unwrap(),
                quoted.join(" ")
            ));
            c.env("COWFS_POOL", pool.path())
                .env("HOME", format!("/home/{USER}"))
                .env_remove("XDG_RUNTIME_DIR")
                .stdin(Stdio::null())
                .output()
                .unwrap()
        };
        let tried = line("--rm --runtime crun bb id");
        if !tried.status.success() {
            return common::skip(&format!("crun does not work here: {}", text(&tried.stderr)));
        }
        assert!(
            text(&tried.stdout).contains("uid=1000(ann)"),
            "{}",
            text(&tried.stdout)
        );
        assert_eq!(
            text(&line("--rm --runtime crun --hostname box bb hostname").stdout),
            "box\n"
        );
        assert_eq!(
            text(&line("--rm --runtime crun bb pwd").stdout),
            "/srv/made/by/us\n"
        );
        assert_eq!(line("--rm --runtime crun bb false").status.code(), Some(1));
        assert_eq!(
            line("--rm --runtime crun bb nosuch").status.code(),
            Some(127)
        );
        assert_eq!(
            text(
                &line(
                    "--rm --runtime crun -u 0 -v /etc/passwd:/in/file:ro bb stat -c %u /etc/passwd"
                )
                .stdout
            ),
            "0\n"
        );
        let out = line("--name web --runtime crun -u 0 bb touch /srv/made-by-crun");
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert!(text(&pool.cowfs(["diff", "web"]).stdout).contains("A /srv/made-by-crun"));
    });
}

/// The figure this is for: under 0.1 s, here in a debug build beside other tests.
#[test]
fn it_starts_at_once() {
    with_pool(None, "{}", |_, pool| {
        pool.run("--name web bb", "true", 0);
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let begun = Instant::now();
            pool.run("--rm bb", "true", 0);
            best = best.min(begun.elapsed());
        }
        eprintln!("a new container, run and removed: {best:?}");
        assert!(best < Duration::from_millis(500), "{best:?}");
    });
}
