//! Names of volumes: what they may look like, and how what a user types finds one.
//!
//! | kind | looks like |
//! |---|---|
//! | container | `web`: letters, digits, `_`, `.`, `-`, beginning with a letter or digit; not only digits |
//! | image | `[HOST[:PORT]/]PATH:TAG`, as docker's references |
//! | snapshot | `CONTAINER@SNAP` |
//! | layer | its chain ID, `sha256:` and 64 hexadecimal digits |
//!
//! What is typed is tried, in this order, as: an exact name; an image without its `:latest`; an id
//! (the decimal number listings show); the beginning (at least 4 digits) of a layer's chain ID or an
//! image's digest, with or without `sha256:`. Where an image is asked for (`create`), the second comes
//! before the first.

use crate::base::{Error, Result};

/// Longest name, bytes.
pub const MAX: usize = 255;
/// Longest part: a container's name, a tag, a snapshot's own name.
const PART_MAX: usize = 128;

fn word(s: &str) -> bool {
    s.len() <= PART_MAX
        && s.starts_with(|c: char| c.is_ascii_alphanumeric())
        && s.chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// A container's name.
pub fn container(name: &str) -> Result<()> {
    if !word(name) {
        return Err(Error::Invalid(format!(
            "'{}' cannot name a container: use letters, digits, '_', '.', '-', at most {PART_MAX}, beginning with a letter or digit",
            shown(name)
        )));
    }
    if name.chars().all(|c| c.is_ascii_digit()) {
        return Err(Error::Invalid(format!(
            "'{name}' cannot name a container: only digits would be taken for an id"
        )));
    }
    Ok(())
}

/// `NAME@SNAP`, taken apart.
pub fn snapshot(name: &str) -> Result<(&str, &str)> {
    match name.split_once('@') {
        Some((of, own)) if word(own) && !of.is_empty() => Ok((of, own)),
        Some(_) => Err(Error::Invalid(format!(
            "'{}' cannot name a snapshot: write CONTAINER@NAME with letters, digits, '_', '.', '-'",
            shown(name)
        ))),
        None => Err(Error::Invalid(format!(
            "'{}' is not a snapshot's name: write CONTAINER@NAME",
            shown(name)
        ))),
    }
}

/// An image's name in full: with `:latest` where no tag is given.
pub fn image(name: &str) -> Result<String> {
    let (repository, tag) = split_tag(name);
    let tag = tag.unwrap_or("latest");
    let tag_ok = tag.len() <= PART_MAX
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let parts = repository.split('/').count();
    let repository_ok =
        repository
            .split('/')
            .enumerate()
            .all(|(i, part)| match part.split_once(':') {
                Some((host, port)) => {
                    i == 0
                        && parts > 1
                        && word(host)
                        && !port.is_empty()
                        && port.chars().all(|c| c.is_ascii_digit())
                }
                None => word(part),
            });
    let full = format!("{repository}:{tag}");
    if !tag_ok || !repository_ok || full.len() > MAX || repository == "sha256" {
        return Err(Error::Invalid(format!(
            "'{}' cannot name an image: write NAME[:TAG] with letters, digits, '_', '.', '-', and '/' between parts",
            shown(name)
        )));
    }
    Ok(full)
}

/// Repository and tag: the tag follows the last colon, unless that is a port's.
pub fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// The end of a digest as one may type it: at least 4 hexadecimal digits after an optional `sha256:`.
pub fn digest_start(typed: &str) -> Option<&str> {
    let digits = typed.strip_prefix("sha256:").unwrap_or(typed);
    (digits.len() >= 4
        && digits.len() <= 64
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
    .then_some(digits)
}

/// A name for messages: one line, bounded.
pub fn shown(name: &str) -> String {
    let mut s: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        s.push('…');
    }
    s
}

/// A made-up container name.
pub fn made_up() -> String {
    let r = random();
    let pick = |words: &[&'static str], n: u64| {
        words
            .get((n % words.len().max(1) as u64) as usize)
            .copied()
            .unwrap_or("a")
    };
    format!("{}_{}", pick(LEFT, r), pick(RIGHT, r >> 20))
}

/// The same, for when that one is taken.
pub fn made_up_longer() -> String {
    format!("{}_{:04}", made_up(), random() % 10_000)
}

fn random() -> u64 {
    let mut b = [0; 8];
    match getrandom::fill(&mut b) {
        Ok(()) => u64::from_le_bytes(b),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as u64),
    }
}

#[rustfmt::skip]
const LEFT: &[&str] = &[
    "able", "amber", "ample", "apt", "autumn", "blithe", "bold", "brave", "bright", "brisk", "calm", "candid", "civil",
    "clever", "cool", "crisp", "curious", "daring", "deft", "eager", "early", "earnest", "easy", "fair", "fancy",
    "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "great", "green", "handy", "happy",
    "hardy", "honest", "humble", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow",
    "merry", "mild", "misty", "modest", "neat", "nimble", "noble", "patient", "placid", "plain", "polite", "proud",
    "prudent", "quick", "quiet", "rapid", "ready", "royal", "rustic", "sage", "serene", "sharp", "shy", "silent",
    "silver", "simple", "sleek", "snug", "sober", "solid", "spry", "steady", "still", "stout", "sturdy", "subtle",
    "sunny", "swift", "tender", "tidy", "tranquil", "true", "upright", "vivid", "warm", "wary", "wise", "witty",
    "young", "zesty",
];
#[rustfmt::skip]
const RIGHT: &[&str] = &[
    "alder", "ash", "aspen", "badger", "beaver", "beech", "birch", "bison", "bobcat", "brook", "cedar", "cicada",
    "clover", "condor", "cougar", "crane", "cricket", "curlew", "cypress", "deer", "dingo", "dove", "eagle", "egret",
    "elk", "elm", "falcon", "fern", "finch", "fir", "fox", "gannet", "gazelle", "gecko", "glacier", "grouse", "hare",
    "hawk", "hazel", "heron", "hickory", "holly", "ibex", "ibis", "iris", "ivy", "jackal", "jay", "juniper", "kestrel",
    "kite", "larch", "lark", "laurel", "lemur", "linden", "linnet", "lynx", "maple", "marten", "meadow", "merlin",
    "mink", "moose", "moss", "newt", "oak", "ocelot", "osprey", "otter", "owl", "petrel", "pine", "plover", "poplar",
    "quail", "rabbit", "raven", "reed", "river", "robin", "rowan", "sable", "salmon", "sequoia", "shrike", "sparrow",
    "spruce", "starling", "stoat", "stork", "swan", "tamarack", "teal", "thistle", "thrush", "tiger", "trout", "vole",
    "walnut", "weasel", "willow", "wolf", "wren", "yak", "yew",
];
