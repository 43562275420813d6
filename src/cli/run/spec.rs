//! What is to run and how: the image's configuration, and the user's words over it.

use super::Args;
use super::caps::Caps;
use crate::base::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where programs are looked for unless the image says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of a host name: what sethostname(2) and DNS allow in one label.
const HOSTNAME_MAX: usize = 63;

/// All that the container's first process must know, gathered before it exists.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The program and its words.
    pub argv: Vec<OsString>,
    /// `NAME=VALUE`.
    pub env: Vec<OsString>,
    /// Made if it does not exist.
    pub cwd: PathBuf,
    /// `USER[:GROUP]` as the container knows them; empty: root.
    pub user: String,
    pub hostname: String,
    pub caps: Caps,
    /// Host directories and files shown inside.
    pub volumes: Vec<Volume>,
    pub read_only: bool,
    /// Files made for this run, bind-mounted over those of the container.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// A small init is process 1 and the program its child.
    pub init: bool,
    /// Standard input is a terminal: its path on the host.
    pub terminal: Option<PathBuf>,
}

/// `SRC:DST[:ro]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

impl Spec {
    /// A program as root of an empty container.
    pub fn bare(argv: Vec<OsString>) -> Spec {
        Spec {
            argv,
            env: vec![format!("PATH={DEFAULT_PATH}").into()],
            cwd: "/".into(),
            user: "0".into(),
            hostname: "cowfs".into(),
            caps: Caps::usual(),
            volumes: vec![],
            read_only: false,
            files: vec![],
            init: false,
            terminal: None,
        }
    }
}

/// Puts it together. `config` is the OCI image configuration; `name` the container's.
pub fn spec(args: &Args, command: &[OsString], config: Option<&Value>, name: &str) -> Result<Spec> {
    let image = config.and_then(|c| c.get("config")).unwrap_or(&Value::Null);
    let hostname = match &args.hostname {
        Some(h) if h.is_empty() || h.len() > 64 => {
            return Err(Error::Invalid(format!(
                "host name '{h}' must have 1 to 64 characters"
            )));
        }
        Some(h) => h.clone(),
        None => hostname(name),
    };
    let terminal = terminal();
    Ok(Spec {
        argv: argv(args.entrypoint.as_deref(), command, image),
        env: env(args, image, &hostname)?,
        cwd: cwd(args, image)?,
        user: args
            .user
            .clone()
            .unwrap_or_else(|| text(image, "User").to_owned()),
        caps: Caps::chosen(&args.cap_add, &args.cap_drop)?,
        volumes: args
            .volume
            .iter()
            .map(|v| volume(v))
            .collect::<Result<_>>()?,
        read_only: args.read_only,
        files: files(&hostname),
        hostname,
        init: args.init,
        terminal,
    })
}

/// An entrypoint of the user's own forgets the image's command too.
fn argv(entrypoint: Option<&str>, command: &[OsString], image: &Value) -> Vec<OsString> {
    let mut argv = match entrypoint {
        Some("") => vec![],
        Some(words) => match serde_json::from_str::<Vec<String>>(words) {
            Ok(list) => list.into_iter().map(OsString::from).collect(),
            Err(_) => vec![words.into()],
        },
        None => list(image, "Entrypoint"),
    };
    if !command.is_empty() {
        argv.extend_from_slice(command);
    } else if entrypoint.is_none() {
        argv.extend(list(image, "Cmd"));
    }
    if argv.is_empty() {
        // A root file system without a configuration: what everyone would type.
        argv.push("/bin/sh".into());
    }
    argv
}

fn env(args: &Args, image: &Value, hostname: &str) -> Result<Vec<OsString>> {
    let mut vars = BTreeMap::<OsString, OsString>::new();
    let mut set = |name: &str, value: OsString| vars.insert(name.into(), value);
    set("PATH", DEFAULT_PATH.into());
    set(
        "TERM",
        std::env::var_os("TERM").unwrap_or_else(|| "xterm".into()),
    );
    set("container", "cowfs".into());
    set("HOSTNAME", hostname.into());
    for word in list(image, "Env") {
        insert(&mut vars, &word);
    }
    for file in &args.env_file {
        let text = std::fs::read(file).map_err(|e| Error::io(file.display().to_string(), e))?;
        for line in text.split(|b| *b == b'\n') {
            let line = line.trim_ascii_start();
            if !line.is_empty() && !line.starts_with(b"#") {
                insert(&mut vars, OsStr::from_bytes(line));
            }
        }
    }
    for word in &args.env {
        insert(&mut vars, OsStr::new(word));
    }
    Ok(vars
        .into_iter()
        .map(|(name, value)| {
            let mut word = name;
            word.push("=");
            word.push(value);
            word
        })
        .collect())
}

/// `NAME=VALUE`, or `NAME` for the caller's own value (nothing, where it has none).
fn insert(vars: &mut BTreeMap<OsString, OsString>, word: &OsStr) {
    let bytes = word.as_bytes();
    if bytes.contains(&0) {
        return;
    }
    match bytes.iter().position(|b| *b == b'=') {
        Some(0) => {}
        Some(at) => {
            let (name, value) = bytes.split_at(at);
            vars.insert(
                OsString::from_vec(name.to_vec()),
                OsString::from_vec(value.get(1..).unwrap_or_default().to_vec()),
            );
        }
        None => {
            if let Some(value) = std::env::var_os(word) {
                vars.insert(word.to_owned(), value);
            }
        }
    }
}

fn cwd(args: &Args, image: &Value) -> Result<PathBuf> {
    let given = args
        .workdir
        .clone()
        .unwrap_or_else(|| PathBuf::from(text(image, "WorkingDir")));
    if given.as_os_str().is_empty() {
        return Ok("/".into());
    }
    if !given.is_absolute() {
        return Err(Error::Invalid(format!(
            "working directory '{}' must be an absolute path",
            given.display()
        )));
    }
    Ok(given)
}

fn text<'a>(image: &'a Value, key: &str) -> &'a str {
    image.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list(image: &Value, key: &str) -> Vec<OsString> {
    let words = image
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    words
        .iter()
        .filter_map(Value::as_str)
        .map(OsString::from)
        .collect()
}

/// A container's name as a host name.
pub fn hostname(name: &str) -> String {
    let ok = |c: char| {
        if c.is_ascii_alphanumeric() || c == '.' {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(ok).take(HOSTNAME_MAX).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() {
        "cowfs".into()
    } else {
        name.into()
    }
}

fn volume(words: &str) -> Result<Volume> {
    let bad = |why: &str| {
        Error::Invalid(format!(
            "volume '{words}': {why}; write HOST-PATH:PATH[:ro]"
        ))
    };
    let mut parts = words.splitn(3, ':');
    let source = parts
        .next()
        .filter(|s| !s.is_empty())
        .ok_or_else(|| bad("no host path"))?;
    let target = parts
        .next()
        .ok_or_else(|| bad("no path in the container"))?;
    if !source.starts_with(['/', '.']) {
        return Err(bad("the host path must begin with '/' or '.'"));
    }
    if !target.starts_with('/') || target == "/" {
        return Err(bad(
            "the path in the container must begin with '/' and be more than that",
        ));
    }
    let mut read_only = false;
    for option in parts.next().unwrap_or_default().split(',') {
        match option {
            "ro" => read_only = true,
            "rw" => read_only = false,
            "" | "z" | "Z" | "bind" | "rbind" | "private" | "rprivate" => {}
            _ => return Err(bad(&format!("unknown option '{option}'"))),
        }
    }
    let source = std::path::absolute(source).map_err(|e| Error::io(source, e))?;
    if let Err(e) = source.metadata() {
        return Err(Error::io(
            format!("volume '{words}': {}", source.display()),
            e,
        ));
    }
    Ok(Volume {
        source,
        target: target.into(),
        read_only,
    })
}

/// The network is the host's: so are its name servers and its hosts.
fn files(hostname: &str) -> Vec<(&'static str, Vec<u8>)> {
    let read = |p: &str| std::fs::read(Path::new(p)).unwrap_or_default();
    let mut hosts = read("/etc/hosts");
    if hosts.is_empty() {
        hosts.extend_from_slice(
            b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        );
    }
    let known = |line: &[u8]| {
        let words = line.split(|b| *b == b'#').next().unwrap_or_default();
        words
            .split(u8::is_ascii_whitespace)
            .skip(1)
            .any(|w| w == hostname.as_bytes())
    };
    if !hosts.split(|b| *b == b'\n').any(known) {
        if !hosts.ends_with(b"\n") {
            hosts.push(b'\n');
        }
        hosts.extend_from_slice(format!("127.0.1.1\t{hostname}\n").as_bytes());
    }
    vec![
        ("etc/resolv.conf", read("/etc/resolv.conf")),
        ("etc/hosts", hosts),
        ("etc/hostname", format!("{hostname}\n").into_bytes()),
    ]
}

/// The terminal on standard input, by its name on the host.
fn terminal() -> Option<PathBuf> {
    let stdin = rustix::stdio::stdin();
    let name = rustix::termios::ttyname(stdin, Vec::new()).ok()?;
    Some(PathBuf::from(OsString::from_vec(name.into_bytes())))
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
