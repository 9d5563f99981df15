//! The scripts: which commands a job types, and what each must print.
//!
//! | line | meaning |
//! |---|---|
//! | `file NAME` | the lines up to `end` are written to this file |
//! | `$ COMMAND`, `$1 COMMAND`, `$2 COMMAND` | a shell runs it; its exit code must be 0, 1 or 2 |
//! | `start NAME: COMMAND` | it goes on in the background, as NAME |
//! | `kill NAME` | SIGKILL to it |
//! | `> TEXT` | the output of the last command has this text behind that of the line before |
//! | `< TEXT` | the output does not have this text |
//! | `one line` | the output is one line |
//!
//! Empty lines and lines with `#` first mean nothing.

use anyhow::{Context, Result, bail};

/// A step of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes a file.
    File {
        /// Its name in the job's folder.
        name: String,
        /// Its text.
        text: String,
    },
    /// Runs a command to its end.
    Command {
        /// The line of the script.
        line: usize,
        /// The shell's command.
        command: String,
        /// The exit code that it must have.
        code: i32,
        /// What its output must have and must not have.
        checks: Vec<Check>,
    },
    /// Starts a command that goes on.
    Start {
        /// Its name in the script.
        name: String,
        /// The shell's command.
        command: String,
    },
    /// Kills one that was started.
    Kill {
        /// Its name in the script.
        name: String,
    },
}

/// A check of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// This text follows.
    Has(String),
    /// This text is nowhere.
    Lacks(String),
    /// There is one line.
    OneLine,
}

impl Check {
    /// Checks an output from `from` on. Returns where the next check begins, or what is wrong.
    pub fn apply(&self, output: &str, from: usize) -> Result<usize, String> {
        match self {
            Self::Has(text) => match output[from..].find(text) {
                Some(at) => Ok(from + at + text.len()),
                None => Err(format!("{text:?} is missing")),
            },
            Self::Lacks(text) if output.contains(text) => Err(format!("{text:?} is there")),
            Self::Lacks(_) => Ok(from),
            Self::OneLine if output.trim_end().lines().count() == 1 => Ok(from),
            Self::OneLine => Err("it is not one line".to_owned()),
        }
    }
}

/// Reads a script.
///
/// # Errors
/// One line that names the line that cannot be read.
pub fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        let cannot = || format!("line {number}: {line:?} is no step");
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("file ") {
            let mut text = String::new();
            loop {
                let (_, line) = lines.next().with_context(|| format!("file {name} has no end"))?;
                if line == "end" {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            steps.push(Step::File { name: name.to_owned(), text });
            continue;
        }
        let check = match (line.strip_prefix("> "), line.strip_prefix("< ")) {
            (Some(text), _) => Some(Check::Has(text.to_owned())),
            (_, Some(text)) => Some(Check::Lacks(text.to_owned())),
            _ => (line == "one line").then_some(Check::OneLine),
        };
        if let Some(check) = check {
            match steps.last_mut() {
                Some(Step::Command { checks, .. }) => checks.push(check),
                _ => bail!("line {number}: {line:?} follows no command"),
            }
            continue;
        }
        steps.push(if let Some(rest) = line.strip_prefix("start ") {
            let (name, command) = rest.split_once(": ").with_context(cannot)?;
            Step::Start { name: name.to_owned(), command: command.to_owned() }
        } else if let Some(name) = line.strip_prefix("kill ") {
            Step::Kill { name: name.to_owned() }
        } else {
            let (code, command) =
                line.strip_prefix('$').and_then(|rest| rest.split_once(' ')).with_context(cannot)?;
            let code = if code.is_empty() { 0 } else { code.parse().with_context(cannot)? };
            Step::Command { line: number, command: command.to_owned(), code, checks: Vec::new() }
        });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_files_commands_and_what_they_print() {
        let text = "# a day\nfile a.toml\nx = 1\nend\n\nstart worker: sortie worker\n$ sortie status\n> done\n< failed\n$2 sortie nonsense\none line\nkill worker\n";
        let steps = parse(text).unwrap();
        assert_eq!(steps[0], Step::File { name: "a.toml".to_owned(), text: "x = 1\n".to_owned() });
        let Step::Command { code, checks, line, .. } = &steps[2] else { panic!("{steps:?}") };
        assert_eq!((*code, *line, checks.len()), (0, 7, 2));
        assert_eq!(checks[0].apply("1 done, 2 done", 3), Ok(14));
        assert!(checks[0].apply("done", 1).is_err() && checks[1].apply("1 failed", 0).is_err());
        let Step::Command { code: 2, checks, .. } = &steps[3] else { panic!("{steps:?}") };
        assert!(checks[0].apply("one\n", 0).is_ok() && checks[0].apply("one\ntwo\n", 0).is_err());
        assert!(parse("> x\n").is_err() && parse("nonsense\n").is_err() && parse("file x\n").is_err());
    }

    #[test]
    fn every_script_of_the_day_can_be_read() {
        for (name, text) in super::super::job::JOBS.iter().chain(&[super::super::job::PYTORCH]) {
            assert!(parse(text).unwrap_or_else(|error| panic!("{name}: {error}")).len() > 2, "{name}");
        }
    }
}
