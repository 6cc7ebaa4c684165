//! Whom the agent's process runs as: user, groups, and what of its environment says so.
//!
//! Groups that open a privileged helper are a way round the gate. Root sheds them; an
//! ordinary caller can't, and is refused unless it accepts them by name. The control
//! socket's own group is what lets an ordinary caller start agents: it stays with it,
//! and the daemon answers nobody inside a session.

use std::ffi::{CString, OsString};
use std::path::PathBuf;

use nix::unistd::{
    Gid, Group, Uid, User, geteuid, getgrouplist, getgroups, setgroups, setresgid, setresuid,
};

use super::LaunchError;

/// Groups whose members command a daemon that runs things as root, or read and write
/// disks and memory directly.
const HELPERS: [&str; 17] = [
    "root",
    "docker",
    "containerd",
    "podman",
    "lxd",
    "lxc",
    "incus",
    "incus-admin",
    "libvirt",
    "libvirt-qemu",
    "kvm",
    "disk",
    "kmem",
    "mem",
    "shadow",
    "microk8s",
    "snap_microk8s",
];

/// The agent's user, found before a session is asked for.
#[derive(Debug)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    /// What root sets; an ordinary caller keeps its own.
    groups: Option<Vec<Gid>>,
    home: Option<PathBuf>,
    variables: Vec<(&'static str, OsString)>,
}

impl Identity {
    /// The caller itself, or for root the user `name`.
    ///
    /// # Errors
    /// Not root, no such user, or a group that is a way round the gate.
    pub fn choose(name: Option<&str>, keep_groups: bool) -> Result<Self, LaunchError> {
        let root = geteuid().is_root();
        match name {
            Some(_) if !root => Err(LaunchError::NotRoot),
            Some(name) => Self::of(name),
            None if root => Self::root(),
            None => Self::caller(keep_groups),
        }
    }

    /// The caller as it is: it has been through all this already.
    pub fn unchanged() -> Self {
        Self {
            uid: nix::unistd::getuid(),
            gid: nix::unistd::getgid(),
            groups: None,
            home: None,
            variables: Vec::new(),
        }
    }

    fn root() -> Result<Self, LaunchError> {
        let groups = getgroups().map_err(LaunchError::errno("getgroups"))?;
        Ok(Self {
            uid: Uid::from_raw(0),
            gid: Gid::from_raw(0),
            groups: Some(groups.into_iter().filter(|gid| !is_helper(*gid)).collect()),
            home: std::env::var_os("HOME").map(PathBuf::from),
            variables: Vec::new(),
        })
    }

    fn caller(keep_groups: bool) -> Result<Self, LaunchError> {
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        let groups = getgroups().map_err(LaunchError::errno("getgroups"))?;
        let mut all = groups.iter().chain(std::iter::once(&gid));
        if !keep_groups && let Some(bad) = all.find(|gid| is_helper(**gid)) {
            return Err(LaunchError::Group(name_of(*bad)));
        }
        Ok(Self {
            uid,
            gid,
            groups: None,
            home: None,
            variables: Vec::new(),
        })
    }

    fn of(name: &str) -> Result<Self, LaunchError> {
        let user = User::from_name(name).ok().flatten();
        let user = user.ok_or_else(|| LaunchError::NoUser(name.into()))?;
        if user.uid.is_root() {
            return Self::root();
        }
        if is_helper(user.gid) {
            let (user, group) = (user.name, name_of(user.gid));
            return Err(LaunchError::PrimaryGroup { user, group });
        }
        let c_name = CString::new(user.name.as_str());
        let c_name = c_name.map_err(|_| LaunchError::NoUser(name.into()))?;
        let groups = getgrouplist(&c_name, user.gid).map_err(LaunchError::errno("getgrouplist"))?;
        let text = |value: &str| OsString::from(value);
        let variables = vec![
            ("HOME", user.dir.clone().into_os_string()),
            ("SHELL", user.shell.clone().into_os_string()),
            ("USER", text(&user.name)),
            ("LOGNAME", text(&user.name)),
        ];
        Ok(Self {
            uid: user.uid,
            gid: user.gid,
            groups: Some(groups.into_iter().filter(|gid| !is_helper(*gid)).collect()),
            home: Some(user.dir),
            variables,
        })
    }

    /// Whether the process is root's own: it makes the agent a view of the file system.
    pub fn is_privileged(&self) -> bool {
        self.groups.is_some()
    }

    /// Whether the agent itself runs with user id 0.
    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    pub(super) fn home(&self) -> Option<&PathBuf> {
        self.home.as_ref()
    }

    /// What to set in the agent's environment.
    pub fn variables(&self) -> &[(&'static str, OsString)] {
        &self.variables
    }

    /// What to take out of it: ways to the caller's own helpers.
    pub fn foreign(&self) -> &'static [&'static str] {
        if self.variables.is_empty() {
            return &[];
        }
        &[
            "XDG_RUNTIME_DIR",
            "DBUS_SESSION_BUS_ADDRESS",
            "SSH_AUTH_SOCK",
            "MAIL",
        ]
    }

    /// Becomes the agent's user for good; `control` is the control socket's group.
    pub(super) fn assume(&self, control: Option<u32>) -> Result<(), LaunchError> {
        let Some(groups) = &self.groups else {
            return Ok(());
        };
        let control = control.map(Gid::from_raw);
        let groups: Vec<Gid> = groups
            .iter()
            .filter(|gid| Some(**gid) != control)
            .copied()
            .collect();
        setgroups(&groups).map_err(LaunchError::errno("setgroups"))?;
        setresgid(self.gid, self.gid, self.gid).map_err(LaunchError::errno("setresgid"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(LaunchError::errno("setresuid"))
    }
}

fn is_helper(gid: Gid) -> bool {
    gid.as_raw() == 0 || HELPERS.contains(&name_of(gid).as_str())
}

/// Its name, or its number where it has none.
fn name_of(gid: Gid) -> String {
    match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_helpers_are_known_by_name() {
        assert!(is_helper(Gid::from_raw(0)));
        let disk = Group::from_name("disk").expect("groups").expect("disk");
        assert!(is_helper(disk.gid));
        let nobody = Group::from_name("nogroup")
            .expect("groups")
            .expect("nogroup");
        assert!(!is_helper(nobody.gid));
    }

    #[test]
    fn an_unknown_user_is_named() {
        let error = Identity::of("no-such-user-here").expect_err("unknown");
        assert!(error.to_string().contains("no-such-user-here"));
    }

    #[test]
    fn another_user_has_its_own_home_and_no_helper_groups() {
        let nobody = Identity::of("nobody").expect("nobody");
        assert!(nobody.is_privileged() && !nobody.is_root());
        assert!(nobody.variables().iter().any(|(name, _)| *name == "HOME"));
        assert!(nobody.foreign().contains(&"DBUS_SESSION_BUS_ADDRESS"));
    }
}
