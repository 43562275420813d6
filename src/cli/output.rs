//! What goes to standard output: text, tables, JSON.

use crate::base::{Error, Result};
use crate::daemon::Raw;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

/// Buffered standard output. `finish` it: what could not be written is an error, not silence.
pub struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    pub fn new() -> Out {
        Out(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).map_err(failed)
    }

    pub fn line(&mut self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// A path as it is; on a terminal, what would steer it is escaped.
    pub fn path(&mut self, path: &Raw) -> Result<()> {
        if io::stdout().is_terminal() {
            self.bytes(printable(path).as_bytes())
        } else {
            self.bytes(path.as_bytes())
        }
    }

    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.0, value).map_err(|e| failed(e.into()))?;
        self.bytes(b"\n")
    }

    pub fn finish(mut self) -> Result<()> {
        self.0.flush().map_err(failed)
    }
}

impl Default for Out {
    fn default() -> Out {
        Out::new()
    }
}

fn failed(e: io::Error) -> Error {
    Error::io("standard output", e)
}

/// Without control characters, on one line.
pub fn printable(path: &Raw) -> String {
    String::from_utf8_lossy(path.as_bytes())
        .chars()
        .flat_map(|c| {
            let escaped: Box<dyn Iterator<Item = char>> = if c.is_control() {
                Box::new(c.escape_default())
            } else {
                Box::new(std::iter::once(c))
            };
            escaped
        })
        .collect()
}

/// Columns as wide as their widest cell; the last is not padded.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With its heading, or without.
    pub fn new(heading: bool, head: &[&str]) -> Table {
        let head = head.iter().map(|h| (*h).to_owned()).collect();
        Table {
            rows: if heading { vec![head] } else { Vec::new() },
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn print(&self, out: &mut Out) -> Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|c| {
                self.rows
                    .iter()
                    .filter_map(|r| r.get(c))
                    .map(|s| s.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(
                    ' ',
                    (width + 3).saturating_sub(cell.chars().count()),
                ));
            }
            out.line(line.trim_end())?;
        }
        Ok(())
    }
}
