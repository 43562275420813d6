//! What we write about images that came without: configurations and manifests.

use super::config::{History, ImageConfig, RootFs, RunConfig};
use super::digest::{Digest, short};
use super::docker;
use super::listing::LayerRecord;
use super::oci::Platform;
use crate::base::{Result, Time};

pub fn made_manifest(config: &[u8], records: &[LayerRecord]) -> Result<Vec<u8>> {
    let mut list = Vec::new();
    for record in records {
        list.push((
            record.media_type.clone(),
            Digest::parse(&record.digest)?,
            record.size,
        ));
    }
    docker::make_manifest(config, &list)
}

/// The configuration of a root file system that came without one.
pub fn made_config(display: &str, diff_id: &str, now: Time) -> ImageConfig {
    let host = Platform::host();
    let created = Some(rfc3339(now));
    ImageConfig {
        architecture: host.architecture,
        os: host.os,
        variant: host.variant,
        created: created.clone(),
        author: None,
        config: RunConfig {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            cmd: vec!["/bin/sh".into()],
            ..RunConfig::default()
        },
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: vec![diff_id.to_string()],
        },
        history: vec![History {
            created,
            created_by: Some(format!("cowfs import {}", short(display))),
            ..History::default()
        }],
    }
}

/// Each layer with the step that made it.
pub fn add_history(config: &ImageConfig, records: &mut [LayerRecord]) {
    let steps = config.history.iter().filter(|step| !step.empty_layer);
    for (record, step) in records.iter_mut().zip(steps) {
        record.history = Some(step.clone());
    }
}

/// UTC, to the second.
pub fn rfc3339(time: Time) -> String {
    let days = time.sec.div_euclid(86_400);
    let second = time.sec.rem_euclid(86_400);
    // Civil date from days: years counted from March, 400 of them at a time.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day = shifted.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
