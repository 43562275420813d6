//! Extended attributes.

use super::Fs;
use super::item::InodeItem;
use crate::base::{Ino, Result};
use crate::pool::Op;

impl Fs {
    pub(crate) fn drop_capability(&self, _op: &mut Op<'_>, _ino: Ino, _item: &mut InodeItem) -> Result<()> {
        todo!()
    }
}
