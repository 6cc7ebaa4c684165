//! An entry of `roles:`.

use super::reader::{Reader, Shape};
use super::tree::Node;
use super::when::{self, When};
use crate::policy::problem::At;

/// A role; without `when` it has the principal of its own name.
#[derive(Debug)]
pub(in crate::policy) struct RoleSpec {
    pub(in crate::policy) name: At<String>,
    pub(in crate::policy) when: Option<Vec<When>>,
    /// Paths, and abstract names that begin with `@`.
    pub(in crate::policy) unix_sockets: Vec<String>,
}

const ROLE: Shape = Shape {
    what: "a role",
    known: &["when", "unix_sockets"],
    later: &[],
};

pub(super) fn read(reader: &mut Reader<'_>, name: At<&str>, node: &Node) -> Option<RoleSpec> {
    let name = reader.name(name, "the name of a role");
    let fields = reader.fields(node, &ROLE)?;
    let when = match fields.optional("when") {
        Some(node) => Some(when::read(reader, node)?),
        None => None,
    };
    let unix_sockets = match fields.optional("unix_sockets") {
        Some(list) => unix_sockets(reader, list)?,
        None => Vec::new(),
    };
    Some(RoleSpec {
        name: name?,
        when,
        unix_sockets,
    })
}

fn unix_sockets(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<String>> {
    let names = reader.texts(node, "`unix_sockets`")?;
    let checked: Vec<_> = names
        .into_iter()
        .map(|name| unix_socket(reader, name))
        .collect();
    checked.into_iter().collect()
}

/// The kernel compares names byte by byte, so only one spelling of a path is taken.
fn unix_socket(reader: &mut Reader<'_>, name: At<String>) -> Option<String> {
    /// Of `sun_path` (unix(7)), without the zero byte that ends or begins it.
    const LONGEST: usize = 107;
    let At { value, spot } = name;
    let shown = value.escape_debug();
    let parts = || value.split('/').skip(1);
    let problem = if value.len() > LONGEST {
        Some((
            format!("longer than {LONGEST} bytes"),
            "no unix socket has such a name",
        ))
    } else if value == "@" {
        Some((
            "the empty abstract name".into(),
            "write what stands after the @",
        ))
    } else if value.starts_with('@') {
        None
    } else if !value.starts_with('/') {
        let help = "write the absolute path, or @name for an abstract socket";
        Some((format!("`{shown}` is not the name of a unix socket"), help))
    } else if value.contains(['*', '{', '?']) {
        Some((
            format!("`{shown}` is a pattern"),
            "sockets are listed one by one, by their exact names",
        ))
    } else if parts().any(|part| ["", ".", ".."].contains(&part)) {
        let help = "no `//`, `.`, `..` or `/` at the end: the name as programs give it";
        Some((format!("`{shown}` is not the plain path of a socket"), help))
    } else {
        None
    };
    if let Some((message, help)) = problem {
        reader.found.error(spot, message, Some(help.into()));
        return None;
    }
    if ["/tmp/", "/var/tmp/", "/dev/shm/"]
        .iter()
        .any(|open| value.starts_with(open))
    {
        let message = format!("everybody may put a link to another socket at `{shown}`");
        let help = "list sockets in directories that only root may write to";
        reader.found.warn(spot, message, Some(help.into()));
    }
    Some(value)
}
