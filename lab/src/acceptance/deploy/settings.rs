//! Whether the programs know the options and variables that a deployment sets.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs::Programs;

/// The environment variables that the programs read.
#[derive(Debug)]
pub struct KnownVariables(BTreeSet<String>);

impl KnownVariables {
    /// Reads them from the programs' help.
    pub fn of(programs: &Programs) -> Result<Self> {
        let mut names = BTreeSet::new();
        for (program, command) in [(&programs.sortie, "serve"), (&programs.sortie, "worker")] {
            let output = Command::new(program).args([command, "--help"]).output();
            let output = output.with_context(|| format!("cannot start {}", program.display()))?;
            ensure!(output.status.success(), "`{} {command} --help` failed", program.display());
            names.extend(variables(&String::from_utf8_lossy(&output.stdout)));
        }
        Ok(Self(names))
    }

    /// Fails if no program reads this variable, and none of the `commands` of the deployment uses it.
    pub fn check(&self, name: &str, commands: &[&str]) -> Result<()> {
        let is_used = commands.iter().any(|command| variables(command).any(|used| used == name));
        ensure!(is_used || !name.starts_with("SORTIE_") || self.0.contains(name), "no program reads {name}");
        Ok(())
    }
}

/// Fails if a program does not accept this command line. Its first word is the installed program.
pub fn check_command(programs: &Programs, words: &[String]) -> Result<()> {
    let shown = words.join(" ");
    let (name, arguments) = words.split_first().context("an empty command")?;
    let name = name.rsplit('/').next().unwrap_or_default();
    let program = programs.by_name(name).with_context(|| format!("`{shown}` does not start sortie"))?;
    // With --help a program does not run, but it checks the arguments before it.
    let output = Command::new(program).args(arguments).arg("--help").output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "`{shown}` is refused: {}",
        stderr.lines().next().unwrap_or("no reason given")
    );
    Ok(())
}

/// The names that begin with SORTIE_ in a text.
fn variables(text: &str) -> impl Iterator<Item = String> + '_ {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| word.starts_with("SORTIE_")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_a_program_reads_are_known() {
        let known = KnownVariables(variables("--db <URL>  [env: SORTIE_DB=x] [default: y]").collect());
        known.check("SORTIE_DB", &[]).unwrap();
        known.check("SORTIE_FLAGS", &["sortie serve $SORTIE_FLAGS"]).unwrap();
        known.check("POSTGRES_DB", &[]).unwrap();
        assert_eq!(
            known.check("SORTIE_BD", &["sortie serve $SORTIE_FLAGS"]).unwrap_err().to_string(),
            "no program reads SORTIE_BD"
        );
    }
}
