//! What of its environment a command gets.

use std::process::Command;

use crate::launch::Identity;

/// Options about the environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Environment {
    /// Set this variable for the command; NAME alone keeps it through --clear-env.
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = variable)]
    set: Vec<Variable>,
    /// Give the command no variables but PATH, HOME, USER, LOGNAME, SHELL, TERM, LANG and TZ,
    /// and those of --env.
    #[arg(long)]
    clear_env: bool,
}

/// What stays through `--clear-env`.
const KEPT: [&str; 8] = [
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ",
];

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    value: Option<String>,
}

fn variable(text: &str) -> Result<Variable, &'static str> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() || name.contains('\0') {
        return Err("a variable has a name");
    }
    Ok(Variable {
        name: name.into(),
        value,
    })
}

impl Environment {
    /// Makes it the command's: the user's own variables, then what is asked for.
    pub(super) fn apply(&self, command: &mut Command, identity: &Identity) {
        if self.clear_env {
            command.env_clear();
            let named = self.set.iter().map(|variable| variable.name.as_str());
            for name in KEPT.into_iter().chain(named) {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        for name in identity.foreign() {
            command.env_remove(name);
        }
        for (name, value) in identity.variables() {
            command.env(name, value);
        }
        for Variable { name, value } in &self.set {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleared_environment_has_what_was_asked_for() {
        let environment = Environment {
            set: vec![
                variable("A=b=c").expect("set"),
                variable("CARGO_PKG_NAME").expect("kept"),
            ],
            clear_env: true,
        };
        let mut command = Command::new("true");
        environment.apply(&mut command, &Identity::unchanged());
        let found: Vec<_> = command
            .get_envs()
            .map(|(name, _)| name.to_owned())
            .collect();
        assert!(found.iter().any(|name| name == "A"));
        assert!(found.iter().any(|name| name == "CARGO_PKG_NAME"));
        assert!(!found.iter().any(|name| name == "CARGO_MANIFEST_DIR"));
        assert!(variable("=x").is_err());
    }
}
