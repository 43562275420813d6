//! Progress of long work: a bar on a terminal, nothing in a pipe.

use crate::daemon::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// One bar on standard error; gone when dropped.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    pub fn new() -> Bar {
        if !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        Bar(Some(bar))
    }

    pub fn show(&self, p: &Progress) {
        let Some(bar) = &self.0 else { return };
        let what: String = p
            .what
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        match (p.total, p.bytes) {
            (Some(total), bytes) => {
                let template = if bytes {
                    "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}"
                } else {
                    "{msg} {wide_bar} {human_pos}/{human_len}"
                };
                self.style(template);
                bar.set_length(total);
            }
            (None, true) => self.style("{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}"),
            (None, false) => self.style("{spinner} {msg} {human_pos}"),
        }
        bar.set_message(what);
        bar.set_position(p.done);
        bar.tick();
    }

    fn style(&self, template: &str) {
        if let (Some(bar), Ok(style)) = (&self.0, ProgressStyle::with_template(template)) {
            bar.set_style(style);
        }
    }
}

impl Default for Bar {
    fn default() -> Bar {
        Bar::new()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
