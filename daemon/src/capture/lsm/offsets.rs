//! What the LSM programs must know of the running kernel, read from its BTF.

use portcullis_ebpf_common::lsm::Offsets;

use super::btf::Types;

/// One kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) offsets: Offsets,
    /// Which argument of `inode_setattr` is the file.
    pub(super) setattr_dentry: u32,
    /// The hooks that it has, of those asked for.
    pub(super) hooks: Vec<&'static str>,
}

/// All of it, or the name of the first thing that is not there.
pub(super) fn find(btf: &[u8], hooks: &[&'static str]) -> Result<Kernel, String> {
    let types = Types::parse(btf).ok_or("types")?;
    let arguments = |hook: &str| types.arguments(&format!("bpf_lsm_{hook}"));
    let setattr = arguments("inode_setattr").ok_or("hook inode_setattr")?;
    let has = |hook: &&&str| arguments(hook).is_some();
    Ok(Kernel {
        offsets: offsets(&types)?,
        // `(dentry, attr)`; later with the mount's idmap before it.
        setattr_dentry: u32::from(setattr > 2),
        hooks: hooks.iter().filter(has).copied().collect(),
    })
}

fn offsets(types: &Types<'_>) -> Result<Offsets, String> {
    let field = |name: &str, path: &str| {
        let offset = types.offset(name, path);
        offset.ok_or_else(|| format!("struct {name}, field {path}"))
    };
    Ok(Offsets {
        task_cgroups: field("task_struct", "cgroups")?,
        css_set_cgroup: field("css_set", "dfl_cgrp")?,
        cgroup_level: field("cgroup", "level")?,
        cgroup_ancestors: field("cgroup", "ancestors")?,
        cgroup_node: field("cgroup", "kn")?,
        node_id: field("kernfs_node", "id")?,
        socket_sock: field("socket", "sk")?,
        sock_cgroup: field("sock", "sk_cgrp_data.cgroup")?,
        sock_family: field("sock", "__sk_common.skc_family")?,
        unix_address: field("unix_sock", "addr")?,
        address_length: field("unix_address", "len")?,
        address_name: field("unix_address", "name")?,
        file_inode: field("file", "f_inode")?,
        file_mode: field("file", "f_mode")?,
        file_private: field("file", "private_data")?,
        inode_mode: field("inode", "i_mode")?,
        inode_device: field("inode", "i_rdev")?,
        inode_super: field("inode", "i_sb")?,
        super_magic: field("super_block", "s_magic")?,
        proc_inode: field("proc_inode", "vfs_inode")?,
        proc_pid: field("proc_inode", "pid")?,
        file_dentry: field("file", "f_path.dentry")?,
        dentry_parent: field("dentry", "d_parent")?,
        dentry_inode: field("dentry", "d_inode")?,
        dentry_super: field("dentry", "d_sb")?,
        inode_number: field("inode", "i_ino")?,
        super_device: field("super_block", "s_dev")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel that the gate runs on has BTF.
    #[test]
    fn the_running_kernel_has_them_all() {
        let btf = std::fs::read("/sys/kernel/btf/vmlinux").expect("BTF");
        let kernel = find(&btf, &["file_open", "no_such"]).expect("all fields");
        assert_eq!(kernel.hooks, ["file_open"]);
        let found = kernel.offsets;
        assert_ne!(found.dentry_parent, found.dentry_inode);
        // `struct file` and `struct inode` begin with other fields in no known kernel.
        assert_ne!(found.sock_cgroup, 0);
        assert!(found.cgroup_ancestors > found.cgroup_node, "{found:?}");
        assert_ne!(found.proc_pid, found.proc_inode);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(find(b"not BTF", &[]).expect_err("no types"), "types");
    }
}
