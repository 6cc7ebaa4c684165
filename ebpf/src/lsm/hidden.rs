//! Which files are the gate's or its daemon's own, by inode: the daemon says which, whatever
//! path, link or bind mount leads there.
//!
//! A directory stands for all that is below it. Directories are walked up to the root of
//! the file system; what is too deep for that is hidden.

use portcullis_ebpf_common::lsm::{DEEPEST_FILE, HiddenKey, LsmConfig, hidden};

use super::HIDDEN;
use super::kernel::{read32, read64};

/// Bits of [`hidden`] for a file (`struct dentry`); it may be a name without a file.
#[inline(always)]
pub fn of(config: &LsmConfig, dentry: u64) -> u32 {
    let offsets = &config.offsets;
    let super_block = read64(dentry + u64::from(offsets.dentry_super));
    let device = read32(super_block + u64::from(offsets.super_device));
    let mut bits = of_one(config, dentry, device);
    let mut at = dentry;
    let mut steps = 0;
    while steps < DEEPEST_FILE {
        let parent = read64(at + u64::from(offsets.dentry_parent));
        if parent == at {
            // The root is its own parent; 0 is what can't be read.
            if at == 0 {
                break;
            }
            return bits;
        }
        bits |= of_one(config, parent, device) & !hidden::NAME;
        at = parent;
        steps += 1;
    }
    bits | hidden::READ | hidden::WRITE
}

#[inline(always)]
fn of_one(config: &LsmConfig, dentry: u64, device: u32) -> u32 {
    // A name without a file has the inode 0, whose number can't be read: no key has it.
    let inode = read64(dentry + u64::from(config.offsets.dentry_inode));
    look_up(config, inode, device)
}

/// The same for an open file (`struct inode`), without the directories that it is in.
#[inline(always)]
pub fn of_inode(config: &LsmConfig, inode: u64) -> u32 {
    let super_block = read64(inode + u64::from(config.offsets.inode_super));
    let device = read32(super_block + u64::from(config.offsets.super_device));
    look_up(config, inode, device)
}

#[inline(always)]
fn look_up(config: &LsmConfig, inode: u64, device: u32) -> u32 {
    let key = HiddenKey {
        inode: read64(inode + u64::from(config.offsets.inode_number)),
        device,
        pad: 0,
    };
    // SAFETY: a number that is replaced whole.
    let found = unsafe { HIDDEN.get(key) };
    found.copied().unwrap_or(0)
}
